"""The diagnostic for a mistake in a pass from outside archc (`pass-failed`)."""

from __future__ import annotations

from typing import Any

from archc.diagnostics import ArchcError, error
from archc.extension_failure import class_text, line_of, reason_of
from archc.types.attributes import AttributeProblem


def pass_failure(step: Any, method: str, failure: BaseException) -> ArchcError:
    """The diagnostic for an exception in a method of a pass."""
    line = line_of(failure, getattr(step, method))
    return error(
        "pass-failed",
        f"`{method}` of the pass `{step.name}` failed: {reason_of(failure)}",
        notes=[
            *([f"in {line}"] if line is not None else []),
            class_text(type(step)),
        ],
        help="correct the pass, or leave it out; ARCHC_DEBUG=1 shows the traceback",
    )


def failed_check(step: Any, method: str, failure: BaseException) -> BaseException | None:
    """The diagnostic for an exception in `Pass.check`; None for one that refuses the options."""
    return None if isinstance(failure, AttributeProblem) else pass_failure(step, method, failure)

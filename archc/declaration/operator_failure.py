"""The failure of a method of an operator from outside archc (`operator-failed`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from archc.diagnostics import ArchcError, Diagnostic, Note, Span
from archc.extension_failure import class_text, line_of, reason_of


class OperatorFailure(ArchcError):
    """Failure of a method of an operator.

    Attributes:
        op: the operator; its class, if a class method failed.
    """

    def __init__(self, op: Any, message: str, notes: Iterable[str] = (), span: Span | None = None):
        cls: Any = op if isinstance(op, type) else type(op)
        every = (*notes, class_text(cls))
        help = "correct the class; ARCHC_DEBUG=1 shows the traceback"
        super().__init__([Diagnostic("error", "operator-failed", message, span, tuple(map(Note, every)), help)])
        self.op, self._notes = op, tuple(notes)

    def __reduce__(self) -> tuple[type[ArchcError], tuple[tuple[Diagnostic, ...]]]:
        return ArchcError, (self.diagnostics,)  # another process may lack the class of the operator

    def at(self, span: Span | None) -> OperatorFailure:
        """The failure with a position in the text, unless it has one."""
        (told,) = self.diagnostics
        return OperatorFailure(self.op, told.message, self._notes, told.span or span)


def operator_failure(
    op: Any, method: str, failure: BaseException, notes: Iterable[str] = (), span: Span | None = None
) -> OperatorFailure:
    """The failure for an exception in a method.

    Args:
        op: the operator, or its class.
        notes: further notes.
    """
    line = line_of(failure, getattr(op, method, None))
    told = (*([f"in {line}"] if line is not None else []), *notes)
    return OperatorFailure(op, f"`{method}` of the operator `{op.name}` failed: {reason_of(failure)}", told, span)

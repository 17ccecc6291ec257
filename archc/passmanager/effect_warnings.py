"""Warnings of passes and options without effect, and of measurements on random inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.diagnostics import Diagnostics
from archc.ir.selector import Selector
from archc.passmanager.base import Pass
from archc.passmanager.calibration import Calibration
from archc.passmanager.report import PassReport
from archc.types.attributes import attributes, value_text

EXPLAIN = "`archc compile --explain` shows the reason for each layer"


def warn_of_options(step: Pass, diagnostics: Diagnostics) -> None:
    """Warn of options of a pass that have no effect with the values of its other options.

    An option that has its default value counts as not given.
    """
    options = {info.name: info for info in attributes(type(step))}

    def unmet(option: str) -> tuple[str, tuple[Any, ...]] | None:
        """The condition that keeps an option without effect: its own, or that of an option that it depends on."""
        if option not in step.effective_with:
            return None
        other, values = step.effective_with[option]
        return unmet(other) or (None if options[other].of(step) in values else (other, values))

    for option in step.effective_with:
        condition = unmet(option) if options[option].of(step) != options[option].default else None
        if condition is not None:
            other, values = condition
            given = " or ".join(f"`{other} = {value_text(value)}`" for value in values if value is not None)
            way = f"without {given}" if given else f"with `{other}`"
            diagnostics.warn(
                "option-without-effect",
                f"`{option}` of `{step.name}` has no effect {way}",
                help=f"leave `{option}` out, or give {given}" if given else f"leave `{option}` or `{other}` out",
            )


def warn_of_idle(step: Pass, report: PassReport, kinds: Mapping[str, str], diagnostics: Diagnostics) -> None:
    """Warn of a pass that changed nothing, or of globs in `on` and `keep` without effect.

    The effect of a glob is determined from the remarks: a pass adds a remark on every layer that it rewrote or could
    rewrite.

    Args:
        kinds: kind of operator for the title of each node, before the pass.
    """
    rewrote = [remark.layer for remark in report.remarks if remark.kind == "rewrote"]
    if not rewrote and not report.changed:
        diagnostics.warn(
            "pass-without-effect",
            f"the pass `{step}` changed nothing",
            notes=_main_reason(report),
            help=EXPLAIN if report.remarks else "leave it out: it has nothing to rewrite in this model",
        )
        return
    possible = [remark.layer for remark in report.remarks if remark.kind != "note" and remark.applicable]
    for option, layers, what in (("on", rewrote, "rewrites"), ("keep", possible, "could rewrite")):
        for glob in Selector.of(getattr(step, option, None)).patterns:
            selector = Selector((glob,))
            if not any(selector.matches(layer, kinds.get(layer, "")) for layer in layers):
                diagnostics.warn(
                    "option-without-effect",
                    f'`{option} = "{glob}"` has no effect: it selects no layer that `{step.name}` {what}',
                    help=EXPLAIN,
                )


def _main_reason(report: PassReport) -> list[str]:
    """Most common reason for which a pass left layers that it could rewrite, as a note; empty without one."""
    reasons: dict[str, list[str]] = {}
    left = [remark for remark in report.remarks if remark.kind == "left"]
    for remark in [remark for remark in left if remark.applicable] or left:
        reasons.setdefault(remark.message, []).append(remark.layer)
    if not reasons:
        return []
    reason, layers = max(reasons.items(), key=lambda item: len(item[1]))
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return [f"`{layers[0]}`{others}: {reason}"]


def warn_of_random(calibration: Calibration, who: str, diagnostics: Diagnostics) -> None:
    """Warn of a measurement of trained weights on random inputs.

    Args:
        who: the measuring pass or command, as the subject of the message.
    """
    if calibration.asked and calibration.trained and not calibration.real:
        diagnostics.warn(
            "random-calibration",
            f"{who} measured the model on random inputs, although the weights are trained",
            help="give representative inputs: `--calib FILE`, an .npz file with an array for each input",
        )

"""Text that `archc compile` prints after the check of the written programs."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent
from typing import Any

from archc.driver.figure_text import error_text

LOOSE = 5e-2
"""Relative error; a check with a larger tolerance does not show that the programs agree."""


def text(check: dict[str, Any]) -> str:
    """Text of the outcome of a check, from the entry `check` of report.json."""
    if "unchecked" in check:
        return f"unchecked: {check['unchecked']}"
    text = f"checked: relative error against the graph: {_errors(check['errors'])} ({_at_most(check)})"
    for name, share in check.get("undecided", {}).items():
        text += f"\nnote: in {share:.2%} of `{name}`, rounding decides between a number and a NaN or an infinity"
    if check.get("saturated"):
        text += f"\nnote: relative error on this CPU: {_errors(check['saturated'])}; {_saturated(check['saturated'])}"
    if not check["faint"]:
        return text
    text += f"\nnote: {_faint(check)}, so the check does not cover the first layers well"
    scaled = check.get("scaled")
    if scaled is None:
        none = "no layer could be scaled; " if "scaled" in check else ""
        return f"{text}\n      {none}give trained weights with `--weights`"
    spread = error_text(min(scaled["spread"][name] for name in check["faint"]))
    text += f"\n      with each layer's weights scaled (relative spread {spread}): {_errors(scaled['errors'])}"
    if scaled["tolerance"] > check["tolerance"]:
        text += f" ({_at_most(scaled)})"
    if scaled["faint"]:
        text += f"; but still {_faint(scaled)}"
    if scaled["faint"] or scaled["tolerance"] > LOOSE:
        text += "\n      give trained weights with `--weights`"
    return text


def _at_most(outcome: dict[str, Any]) -> str:
    return f"at most {outcome['tolerance']:.2g}, {outcome['bound']}"


def _errors(errors: dict[str, float]) -> str:
    from archc.driver.emitted_programs import title_of

    return ", ".join(f"{title_of(name)} {error_text(error)}" for name, error in errors.items())


def _saturated(programs: Iterable[str]) -> str:
    """The reason for errors from saturation, and for each runtime a way to avoid them."""
    from archc.driver.emitted_programs import target_of

    runtimes = [target_of(program).runtime for program in programs]
    advice = [runtime.exact_sums.advice for runtime in runtimes if runtime is not None and runtime.exact_sums]
    lines = "\n".join(dict.fromkeys(advice))
    return f"sums of 8-bit products saturate without VNNI instructions:\n{indent(lines, ' ' * 6)}"


def _faint(outcome: dict[str, Any]) -> str:
    """Clause that names the outputs that hardly depend on the inputs."""
    spread = min(outcome["spread"][name] for name in outcome["faint"])
    names = " and ".join(f"`{name}`" for name in outcome["faint"])
    verb = "depends" if len(outcome["faint"]) == 1 else "depend"
    return f"{names} hardly {verb} on the inputs (relative spread {error_text(spread)})"

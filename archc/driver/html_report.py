"""`report.html`: the report for people, in one file with its charts.

The file has no scripts and refers to no other file.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from archc.codegen.templates import template
from archc.driver.charts import MOST_BARS, Chart, bar_chart
from archc.driver.emitted_programs import title_of
from archc.driver.figure_text import change_text, error_text, seconds_text

_COSTS = {"bytes": "bytes", "parameters": "parameters", "multiply_adds": "multiply-adds", "nodes": "operators"}
_COLUMNS = {
    "layer": "layer",
    "operator": "operator",
    "remarks": "what was done, or why not",
    "format": "format",
    "scheme": "scheme",
    "method": "method",
    "before": "bytes before",
    "after": "bytes after",
    "error": "weight error",
    "own": "own SNR, dB",
    "noise": "SNR, dB",
    "effect": "output error",
}
"""Titles of the columns of the table of layers, by the key in `_layer`."""
_EXPLANATIONS = {
    "format": "Format: storage of the weights; `dense` weights are floats in the dtype of the text.",
    "scheme": "Scheme: with `static` and `dynamic`, the layer multiplies integers, and its operand is quantized with"
    " constant scales or with scales of each run; with `weight`, it computes in floats.",
    "method": "Method: how weights are rounded: `gptq` compensates the errors on the calibration data, `rtn` rounds to"
    " nearest, `training` rounds in each run.",
    "after": "Bytes: all stored tensors of the layer, with biases. Weights that several layers share count in the first"
    " of these layers. The text on a layer counts its quantized weights only, also shared ones.",
    "error": "Weight error: relative error of the weights, in the Frobenius norm.",
    "own": "Own SNR: signal-to-noise ratio of the result with the rounding of this layer's weights and operands as the"
    " only noise.",
    "noise": "SNR: signal-to-noise ratio of the result against the model before the passes, with the noise of earlier"
    " layers; 20 dB are an error of 10 %, 40 dB of 1 %. Layers whose results are rescaled (equalized) have none.",
    "effect": "Output error: squared error of the outputs that this layer alone causes, relative to their mean squares."
    " It is measured on the calibration data, by gradients of the outputs.",
}
"""Explanations of columns, by the same keys."""
_NUMBERS = ("before", "after", "error", "own", "noise", "effect")
_NONE = "–"


def html_report(report: Mapping[str, Any]) -> str:
    """The text of `report.html`.

    Args:
        report: the content of `report.json`; the entries `layers` and `latency` may be missing.
    """
    layers = _layers(report)
    columns = {key: title for key, title in _COLUMNS.items() if any(layer[key] for layer in layers)}
    page = template("archc.driver", "report.html.jinja").render(
        report=report,
        figures=list(_figures(report)),
        check=_check(report["check"]),
        charts=[chart for chart in (_bytes_chart(report), _noise_chart(report)) if chart is not None],
        layers=layers,
        columns=columns,
        explanations=[text for key, text in _EXPLANATIONS.items() if key in columns],
        numbers=_NUMBERS,
        notes=[text for step in report["passes"] for text in _messages(step, report["model"])],
        versions=_versions(),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )
    # HTML forbids most control characters, and has no escapes for them.
    return re.sub(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", page)


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the first table: a title, the figure before and after the passes, and the change."""
    passes = report["passes"]
    before, after = (passes[0]["before"], passes[-1]["after"]) if passes else (None, report)
    for key, title in _COSTS.items():
        if before is None:
            yield title, "", f"{after[key]:,}", ""
        else:
            yield title, f"{before[key]:,}", f"{after[key]:,}", change_text(before[key], after[key])
    if passes:
        error = passes[-1]["total_error"]
        yield "relative error of the outputs", "", _NONE if error is None else error_text(error), ""
    for name, program in report.get("latency", {}).get("programs", {}).items():
        was, now = program["before"], program["after"]
        faster = "" if was is None else f"{was['seconds'] / now['seconds']:.2f} times as fast"
        yield f"latency in {title_of(name)}", "" if was is None else _latency(was), _latency(now), faster


def _latency(latency: Mapping[str, Any]) -> str:
    low, high = seconds_text(latency["low"]), seconds_text(latency["high"])
    return f"{seconds_text(latency['seconds'])} ({low} to {high}, {latency['runs']:,} runs)"


def _check(check: Mapping[str, Any]) -> str:
    if "unchecked" in check:
        return f"The programs were not checked: {check['unchecked']}."
    errors = ", ".join(f"{title_of(name)} {error_text(error)}" for name, error in check["errors"].items())
    return f"Relative error of the programs against the graph: {errors}; at most {check['tolerance']:.2g} is allowed."


# Charts ---------------------------------------------------------------------------------------------------


def _bytes_chart(report: Mapping[str, Any]) -> Chart | None:
    layers = [(each["layer"], each["bytes_before"] or 0, each["bytes_after"] or 0) for each in report.get("layers", ())]
    largest = sorted(layers, key=lambda layer: -max(layer[1:]))[:MOST_BARS]
    shown = [layer for layer in layers if layer in largest]
    rows = [(name, (before, after), f"{before:,} → {after:,}") for name, before, after in shown]
    return bar_chart(
        _title("Bytes by layer, before (grey) and after (blue)", "largest", shown, layers), ("before", "after"), rows
    )


def _noise_chart(report: Mapping[str, Any]) -> Chart | None:
    layers = [(each["layer"], each["snr_db"]) for each in report.get("layers", ()) if each["snr_db"] is not None]
    shown = sorted(layers, key=lambda layer: layer[1])[:MOST_BARS]
    rows = [(name, (ratio,), f"{ratio:.1f} dB") for name, ratio in layers if (name, ratio) in shown]
    return bar_chart(_title("Signal-to-noise ratio by layer, in decibels", "lowest", shown, layers), ("noise",), rows)


def _title(title: str, kind: str, shown: Sequence[object], layers: Sequence[object]) -> str:
    return title if len(shown) == len(layers) else f"{title}: the {len(shown)} {kind} of {len(layers):,} layers"


# Layers ---------------------------------------------------------------------------------------------------


def _layers(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of the table of layers: those with weights, each before its parts, then others with remarks."""
    known = {each["layer"]: each for each in report.get("layers", ())}
    remarked: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for step in report["passes"]:
        for remark in step["remarks"]:
            remarked.setdefault(remark["layer"], []).append((step, remark))
    names = dict.fromkeys((*known, *remarked))
    names.pop(report["model"], None)
    places = {name: place for place, name in enumerate(known)}

    def place(name: str) -> tuple[int, bool]:
        parts = name.split(".")
        above = (places.get(".".join(parts[:count])) for count in range(len(parts), 0, -1))
        return next((found for found in above if found is not None), len(places)), name not in known

    ordered = sorted(names, key=place)
    return [_layer(name, known.get(name, {}), remarked.get(name, [])) for name in ordered]


def _layer(
    name: str, layer: Mapping[str, Any], remarks: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> dict[str, str]:
    figures: dict[str, Any] = {}
    for _, remark in remarks:
        figures |= remark["figures"]
    ratio = layer.get("snr_db")
    return {
        "layer": name,
        "operator": layer.get("operator", ""),
        "kind": "rewrote" if any(remark["kind"] == "rewrote" for _, remark in remarks) else "left",
        "remarks": "\n".join(f"{_pass_name(step)}: {remark['message']}" for step, remark in remarks),
        "format": ", ".join(layer.get("formats", ())) or str(figures.get("format", "")),
        "scheme": str(figures.get("scheme", "")),
        "method": str(figures.get("method", "")),
        "before": _count(layer.get("bytes_before")),
        "after": _count(layer.get("bytes_after")),
        "error": error_text(figures["error"]) if _is_number(figures.get("error")) else "",
        "own": f"{figures['snr_db']:.1f}" if _is_number(figures.get("snr_db")) else "",
        "noise": "" if ratio is None else f"{ratio:.1f}",
        "effect": f"{figures['output_error']:.1e}" if _is_number(figures.get("output_error")) else "",
    }


def _messages(step: Mapping[str, Any], model: str) -> list[str]:
    """Remarks of a pass on the whole model."""
    return [f"{_pass_name(step)}: {each['message']}" for each in step["remarks"] if each["layer"] == model]


def _pass_name(step: Mapping[str, Any]) -> str:
    return str(step["pass"]).partition("(")[0]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _is_number(value: object) -> bool:
    """Return whether a figure, which passes may choose freely, is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _versions() -> list[tuple[str, str]]:
    """Versions of archc and of the packages that it requires."""
    names = ["archc"]
    for requirement in metadata.requires("archc") or ():
        if "extra ==" not in requirement:
            names.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found

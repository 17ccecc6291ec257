"""`report.html`: well-formed, complete, self-contained, escaped and small."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archc
from archc.driver import latency
from archc.driver.charts import MOST_BARS, bar_chart
from archc.driver.html_report import html_report
from tests.cli.conftest import SPECS, Run

TEXT = """
model net {
    input x: f32[N, 64]
    output y = x -> fc1: linear(64) -> relu -> fc2: linear(64) -> tanh -> head: linear(8)
}
"""
VOID = {"meta", "rect", "link", "br"}


class Page(HTMLParser):
    """Elements and texts of a page; the parser fails on a tag that is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def layers(self) -> dict[str, dict[str, str]]:
        """The table of layers: cells by title, by layer."""
        heads = [number for number, row in enumerate(self.rows) if row[0] == "layer"]
        titles = self.rows[heads[0]]
        rows = (row for row in self.rows[heads[0] + 1 :] if len(row) == len(titles))
        return {row[0]: dict(zip(titles, row, strict=True)) for row in rows}


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def write(folder: Path, passes: str, **options: Any) -> dict[str, Any]:
    data = {"x": np.random.default_rng(0).standard_normal((64, 64), np.float32)}
    compiled = archc.compile(TEXT, passes=passes, calib=data, baseline=True)
    return compiled.write(folder, emit="onnx", report="html", **options)


def test_the_command_writes_the_page_with_layers_charts_and_latency(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    passes = 'lowrank(rank = 8, on = "fc.0"), quant(int4, keep = "head")'
    command = ("compile", SPECS / "lenet5.arch", "--passes", passes, "--report", "html", "--measure", "-o", tmp_path)
    result = run(*command)
    size = (tmp_path / "report.html").stat().st_size
    assert result.status == 0 and re.search(rf"report\.html +{size:,} bytes\n", result.out)
    page, report = page_of(tmp_path), json.loads((tmp_path / "report.json").read_text())
    assert report["files"]["report.html"]["bytes"] == size
    assert list(page.layers) == ["conv1", "conv2", "fc.0", "fc.0.a", "fc.0.b", "fc.1", "head"]
    assert page.layers["head"]["what was done, or why not"] == "lowrank: not selected\nquant: not selected"
    titles = [row[0] for row in page.rows]
    assert "latency in PyTorch" in titles and "latency in ONNX Runtime" in titles
    for layer in report["layers"]:
        row = page.layers[layer["layer"]]
        assert row["bytes before"] == f"{layer['bytes_before']:,}" and row["bytes after"] == f"{layer['bytes_after']:,}"
        assert row["SNR, dB"] == f"{layer['snr_db']:.1f}"
    assert sum(layer["bytes_after"] for layer in report["layers"]) == report["bytes"]
    assert [tag for tag, _ in page.elements].count("svg") == 2


def test_pictures_are_xml_and_nothing_refers_to_other_files(tmp_path: Path) -> None:
    write(tmp_path, "quant(int4)")
    text, page = (tmp_path / "report.html").read_text(), page_of(tmp_path)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        bars = root.findall("{http://www.w3.org/2000/svg}rect")
        assert len(bars) >= 3
        for bar in bars:
            x, y, w, h = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and x + w < width and y + h <= height
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert not {name for _, attributes in page.elements for name in attributes} & {"href", "src", "onload"}
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme:dark" in text and "@media print" in text


def test_the_table_has_the_figures_of_data_aware_quantization(tmp_path: Path) -> None:
    report = write(tmp_path, "quant(bytes = 50000)")
    page = page_of(tmp_path)
    for remark in report["passes"][0]["remarks"]:
        if remark["kind"] == "rewrote":
            row = page.layers[remark["layer"]]
            assert row["method"] == remark["figures"]["method"]
            assert row["own SNR, dB"] == f"{remark['figures']['snr_db']:.1f}"
            assert row["output error"] == f"{remark['figures']['output_error']:.1e}"


def test_the_page_explains_the_columns_of_int8_layers(tmp_path: Path) -> None:
    report = write(tmp_path, "quant(least = 0)")
    page = page_of(tmp_path)
    figures = {each["layer"]: each["figures"] for each in report["passes"][0]["remarks"] if each["kind"] == "rewrote"}
    for layer, of_layer in figures.items():
        row = page.layers[layer]
        assert (row["format"], row["scheme"], row["method"]) == ("int8(axis = 0)", "static", "gptq")
        assert row["own SNR, dB"] == f"{of_layer['snr_db']:.1f}" and row["weight error"] and row["SNR, dB"]
        assert row["output error"] == f"{of_layer['output_error']:.1e}" != "0.0e+00"
    for title in ("Scheme:", "Output error:"):
        assert any(text.startswith(title) for text in page.texts)


def test_the_page_says_which_bytes_a_row_and_a_remark_count(tmp_path: Path) -> None:
    text = "model net { input i: i64[N]  output i -> e: embedding(90, 64) -> fc: linear(90, weight = e.weight) }"
    compiled = archc.compile(text, passes="quant(int4)", baseline=True)
    report = compiled.write(tmp_path, emit="arch", report="html")
    page = page_of(tmp_path)
    (embedding, linear), weight = page.layers.values(), report["passes"][0]["remarks"][0]["figures"]
    for row in (embedding, linear):
        said = f"{weight['bytes_before']:,} bytes of weights become {weight['bytes_after']:,}"
        assert said in row["what was done, or why not"]
    assert embedding["bytes after"] == f"{weight['bytes_after']:,}" and linear["bytes after"] == "360"  # the bias
    assert any("with biases. Weights that several layers share count in the first" in each for each in page.texts)


def test_without_passes_the_page_has_figures_and_files(tmp_path: Path) -> None:
    archc.compile(TEXT).write(tmp_path, emit="onnx", report="html", check=False)
    page = page_of(tmp_path)
    assert ["net.onnx", f"{(tmp_path / 'net.onnx').stat().st_size:,} bytes"] in page.rows
    assert "svg" not in {tag for tag, _ in page.elements}
    assert "The programs were not checked: `--no-check` was given." in page.texts


def test_texts_are_escaped(tmp_path: Path) -> None:
    """File names may have any characters, and so may remarks and figures of a pass from outside archc."""
    report = write(tmp_path, "quant(int4)", check=False)
    attack = "<script>alert(1)</script>&\"'\x01\x85"
    report["source"] = attack
    report["layers"][0]["layer"] = attack
    report["warnings"] = [{"code": "a-code", "message": attack, "file": attack, "line": 1, "help": attack}]
    report["passes"][0]["remarks"][0] |= {"layer": attack, "message": attack, "figures": {"error": attack}}
    text = html_report(report)
    shown = attack.replace("\x01", "\N{REPLACEMENT CHARACTER}").replace("\x85", "\N{REPLACEMENT CHARACTER}")
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.elements}
    assert shown in page.layers and any(shown in one for one in page.texts)
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(picture)


def test_a_large_model_gives_a_small_page(tmp_path: Path) -> None:
    report = write(tmp_path, "quant(int4)", check=False)
    layer, (remark, *_) = report["layers"][0], report["passes"][0]["remarks"]
    names = [f"encoder.blocks.{number}.attention.query_projection" for number in range(1000)]
    report["layers"] = [{**layer, "layer": name, "bytes_before": 4 * k + 4} for k, name in enumerate(names)]
    report["passes"][0]["remarks"] = [{**remark, "layer": name} for name in names]
    text = html_report(report)
    assert len(text.encode()) < 2_000_000
    page = Page(text)
    assert set(names) <= set(page.layers)
    bars = [attributes for tag, attributes in page.elements if tag == "rect"]
    assert len(bars) == MOST_BARS * (2 + 1)
    assert f"the {MOST_BARS} largest of 1,000 layers" in text


def test_bars_are_proportional() -> None:
    chart = bar_chart("t", ("before", "after"), [("a", (100, 25), ""), ("b" * 90, (50, 0), "")])
    assert chart is not None
    (full, quarter), (half, none) = ([bar.width for bar in row.bars] for row in chart.rows)
    assert (quarter / full, half / full, none) == pytest.approx((0.25, 0.5, 0))
    assert len(chart.rows[1].label) <= 36 and bar_chart("t", ("before",), []) is None


def test_an_unknown_form_of_the_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`report` takes 'json' or 'html', not 'pdf'"):
        archc.compile(TEXT).write(tmp_path, report="pdf")

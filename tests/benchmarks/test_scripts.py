"""The benchmarks run at tiny sizes, and print Markdown tables."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.__main__ import SCRIPTS
from benchmarks.processes import measure
from benchmarks.tables import markdown
from tests.docs.examples import ROOT, python

TINY = {
    "perceptron": "--width 32 --hidden 64 --batch 2 --repetitions 2 --rounds 2 --seconds 0.001",
    "check_time": "specs/mlp.arch specs/cnn.arch --runs 2",
    "scaling": "--operators 20 200 --shapes loop residual --emit onnx",
    "memory": "--megabytes 20 --passes quant",
    "pruning": "--epochs 1 --further 1 --repetitions 1 --out out/test-pruning",
    "lengths": "gpt2 resnet50",
    "large_specs": "--runs 1",
    "references": "--batches 1 --length 4 --pairs 1",
    "packed_weights": "--shapes 1x4 --rounds 1 --loads 1",
    "recurrent_int8": "--operators gru --widths 8 --batches 1 2 --rounds 1",
    "memory_format": "--models cnn resnet18 --batches 1 2 --pixels 28 --pairs 1",
    "depthwise": "--epochs 0 --recipes quant --out out/test-depthwise",
    "quantize_dynamic": "--models mlp --batches 1 2 --rounds 1 --seconds 0.001",
    "narrowed_cnns": "--models resnet18 --side 32 --batches 1 --rounds 1 --out out/test-narrowed-cnns",
    "factor_speed": "--layers 2 --batches 32 --rounds 1",
    "structures": "--quick --held 12 --rounds 1 --rows masks --out out/test-structures",
    "pivoted": "--tiny",
    "shrinking": "--quick --held 12 --points 0.6 --time 0s --no-singles --out out/test-shrinking",
    "pitch": "--model crepe_tiny --shares 0.6 --sounds 2 --held 2 --rounds 1",
    "quantizers": "--quick --held 12 --rounds 1 --seconds 0.001 --recipes quant --rivals --out out/test-quantizers",
    "streaming_quant": "--depth 1 --width 64 --out out/test-streaming",
    "resnet_static": "--side 32 --batches 1 --rounds 1 --calibration 2 --observed-norms",
}
MEASUREMENT = """
import json
from benchmarks.processes import measure
programs = "pass", "held = b'x' * 300_000_000; sum(range(10_000_000))"
print(json.dumps([vars(measure(["-c", program])) for program in programs]))
"""
HELP = """
import contextlib, runpy, sys
for script in sys.argv[1:]:
    sys.argv[:] = [script, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(f"benchmarks.{script}", run_name="__main__")
"""
ROWS = {
    "perceptron": 3,
    "check_time": 2,
    "scaling": 2,
    "memory": 1,
    "pruning": 3,
    "lengths": 2,
    "large_specs": 4,
    "references": 2,
    "packed_weights": 5,
    "recurrent_int8": 4,
    "memory_format": 4,
    "depthwise": 2,
    "quantize_dynamic": 6,
    "quantizers": 4,
    "narrowed_cnns": 2,
    "factor_speed": 8,
    "structures": 2,
    "pivoted": 2,
    "shrinking": 1,
    "pitch": 3,
    "streaming_quant": 2,
    "resnet_static": 5,
}


def table(text: str) -> list[list[str]]:
    """The cells of the only table in a text, without its header."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert all(re.fullmatch(r"---:?", cell) for cell in rows[1])
    return rows[2:]


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_script_prints_a_table(script: str) -> None:
    rows = table(python("-m", f"benchmarks.{script}", *TINY[script].split()))
    assert len(rows) == ROWS[script]
    figures = {"lengths": slice(1, -1), "recurrent_int8": slice(2, None)}.get(script, slice(1, None))  # without names
    assert all(re.search(r"\d", cell) for row in rows for cell in row[figures])


@pytest.mark.slow
def test_every_script_has_help() -> None:
    """One process prints all help texts, since the imports take most of the time."""
    usages = re.findall(r"^usage: .*?(\w+)(?:\.py)? \[-h\]", python("-c", HELP, *SCRIPTS), re.MULTILINE)
    assert usages == list(SCRIPTS)


def test_every_script_is_run_by_make_bench() -> None:
    shared = {"__init__", "__main__", "timing", "tables", "processes", "peers", "pages", "embeddings", "programs"}
    assert {file.stem for file in (ROOT / "benchmarks").glob("*.py")} - shared == set(SCRIPTS)


def test_process_is_measured() -> None:
    """Memory and time of a busy process exceed those of an idle process."""
    # A small process starts the measured ones: the memory of this process, with PyTorch, would be counted.
    idle, busy = json.loads(python("-c", MEASUREMENT))
    assert 250_000_000 < busy["peak"] - idle["peak"] < 400_000_000
    assert busy["seconds"] > idle["seconds"]


def test_message_of_a_failing_process_is_reported() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        measure(["-c", "raise SystemExit('no such thing')"])


def test_table() -> None:
    assert table(markdown(["", "median"], [["float", "1 ms"], ["int8", "2 ms"]])) == [
        ["float", "1 ms"],
        ["int8", "2 ms"],
    ]

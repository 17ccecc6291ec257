"""Input sizes given as first arguments, as in PyTorch."""

from __future__ import annotations

import pytest

from archc.compiler import parse
from archc.declaration.registry import known_operators
from archc.diagnostics import ArchcError, Diagnostic, Diagnostics, Source
from archc.language.elaboration.advice import input_axis

TEXT = """model m {{
    input x: f32[N, 8]
    input image: f32[N, 3, 64, 64]
    input sequence: f32[N, T, 64]
    input ids: i64[N, T]
    output y = {}
}}"""


def told(chain: str) -> list[Diagnostic]:
    """Diagnostics of a chain, without those on unused inputs."""
    found = Diagnostics()
    try:
        parse(Source(TEXT.format(chain)), diagnostics=found)
    except ArchcError as failure:
        found = Diagnostics(list(failure.diagnostics))
    return [one for one in found if one.code != "unused-value"]


@pytest.mark.parametrize(
    ("chain", "severity", "way"),
    [
        ("sequence -> lstm(64, 128)", "warning", "`lstm(128)`; if the values are intended, write `num_layers = 128`"),
        ("sequence -> gru(64, 128, 2)", "error", "`gru(128, 2)`"),
        ("sequence -> gru(64, hidden_size = 128)", "error", "`gru(hidden_size = 128)`"),
        ("image -> conv2d(3, 32, 3)", "warning", "`conv2d(32, 3)`; if the values are intended, write `stride = 3`"),
        ("image -> conv2d(3, 6, 5)", "warning", "`conv2d(6, 5)`; if the values are intended, write `stride = 5`"),
        ("image -> conv2d(3, 128, 3, padding = 1)", "error", "`conv2d(128, 3, padding = 1)`"),
        ("image -> conv2d(3, 64, kernel_size = 3)", "error", "`conv2d(64, kernel_size = 3)`"),
        (
            "image -> conv_transpose2d(3, 32, 4)",
            "warning",
            "`conv_transpose2d(32, 4)`; if the values are intended, write `stride = 4`",
        ),
        ("x -> linear(8, 10)", "error", "`linear(10)`"),
        ("x -> linear(9, 10)", "error", "`linear(10)`"),
        ("x -> fc: linear(8, out_features = 10)", "error", "`linear(out_features = 10)`"),
        ("sequence -> attention(64, 8)", "error", "`attention(8)`"),
    ],
)
def test_an_input_size_that_comes_first_is_told(chain: str, severity: str, way: str) -> None:
    (found,) = told(chain)
    assert (found.severity, found.help) == (severity, f"leave the input size out: {way}")


@pytest.mark.parametrize(
    "chain",
    [
        "sequence -> lstm(64, 2)",
        "sequence -> lstm(64, num_layers = 128)",
        "sequence -> lstm(32, 128)",
        "image -> conv2d(3, 3, 1)",
        "image -> conv2d(3, 5, 2)",
        "image -> conv2d(3, 16, 16)",
        "image -> conv2d(3, 31)",
        "image -> conv2d(3, 31, padding = 15, groups = 3)",
        "image -> conv2d(3, 6, stride = 5)",
        "image -> conv_transpose2d(3, 4, 2)",
        "x -> linear(8, false)",
        "image -> batch_norm(3)",
        "image -> group_norm(3, 3)",
        "ids -> embedding(1000, 64)",
    ],
)
def test_arguments_that_are_usual_are_not_told(chain: str) -> None:
    assert told(chain) == []


def test_the_axis_is_that_of_layers_that_multiply() -> None:
    axes = {name: input_axis(operator) for name, operator in known_operators().items()}
    convolutions = {f"conv{kind}{rank}d": 1 for kind in ("", "_transpose") for rank in (1, 2, 3)}
    assert {name: axis for name, axis in axes.items() if axis is not None} == {
        **convolutions,
        **dict.fromkeys(("rnn", "lstm", "gru"), 2),
        "linear": -1,
    }

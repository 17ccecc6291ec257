"""Derived models: defaults, names and printed text."""

from __future__ import annotations

from pathlib import Path

import pytest

import archc
from archc.diagnostics import ArchcError
from archc.language.printing.printer import print_graph

BASE = """\
# A stack of layers.
model base(width = 8, depth = 2, hidden = 2 * width) {
    input x: f32[N, width]
    for i in 0..depth { x = x -> up[i]: linear(hidden) -> relu -> down[i]: linear(width) }
    output y = x
}
"""


def shapes(text: str | Path, model: str, **values: object) -> dict[str, tuple[int, ...]]:
    graph = archc.parse(text, model, values)
    return {path: weight.shape for path, weight in graph.weights.items() if path.endswith("weight")}


def test_a_derived_model_is_its_base_with_other_defaults() -> None:
    text = BASE + "model large = base(width = 16, depth = 1)\n"
    assert shapes(text, "large") == {"up.0.weight": (32, 16), "down.0.weight": (16, 32)}
    assert shapes(text, "large") == shapes(text, "base", width=16, depth=1)
    assert shapes(text, "base") == shapes(BASE, "base")


def test_a_value_that_is_set_overrides_the_derived_default() -> None:
    text = BASE + "model large = base(width = 16, depth = 1)\n"
    assert shapes(text, "large", width=4) == {"up.0.weight": (8, 4), "down.0.weight": (4, 8)}


def test_derivations_chain_and_the_last_word_counts() -> None:
    text = (
        "model larger = large(depth = 1, hidden = 5)\nmodel same = larger\n"
        + BASE
        + "model large = base(width = 16, depth = 3)\n"
    )
    assert shapes(text, "larger") == {"up.0.weight": (5, 16), "down.0.weight": (16, 5)}
    assert shapes(text, "same") == shapes(text, "larger")


def test_a_derived_default_may_use_the_attributes_before_it() -> None:
    text = BASE + "model large = base(hidden = width + 1, width = 4, depth = 1)\n"
    assert shapes(text, "large") == {"up.0.weight": (5, 4), "down.0.weight": (4, 5)}


def test_a_derived_model_has_its_own_name_and_doc_or_that_of_its_base() -> None:
    text = BASE + "\n# The large one.\nmodel large = base(width = 16)\nmodel other = base\n"
    large, other = archc.parse(text, "large"), archc.parse(text, "other")
    assert (large.name, large.scope.doc) == ("large", "The large one.")
    assert (other.name, other.scope.doc) == ("other", "A stack of layers.")


def test_a_derived_model_prints_as_a_whole_one() -> None:
    graph = archc.parse(BASE + "model large = base(width = 16, depth = 3)\n", "large")
    printed = print_graph(graph)
    assert "model large {" in printed and "base" not in printed
    assert archc.parse(printed) == graph


def test_a_model_of_another_file_sees_its_own_names_and_the_defaults_those_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "base.arch").write_text(
        "block Act { input x  output x -> relu }\n"
        "model base(act = Act, classes = 3) { input x: f32[N, 4]  output y = x -> act -> fc: linear(classes) -> Act }\n"
    )
    (tmp_path / "net.arch").write_text(
        'import "base.arch" as lib\nblock Act { input x  output x -> tanh }\nblock Own { input x  output x -> gelu }\n'
        "model net = lib.base(act = Act, classes = 5)\nmodel other = net(classes = 7)\n"
    )
    net = archc.parse(tmp_path / "net.arch", "other")
    assert [str(node.op) for node in net.nodes()] == ["tanh", "linear(7)", "relu"]
    own = archc.parse(tmp_path / "net.arch", "net", {"act": "Own"})
    assert [str(node.op) for node in own.nodes()] == ["gelu", "linear(5)", "relu"]


def test_a_file_of_derived_models_needs_no_option_where_one_bears_its_name(tmp_path: Path) -> None:
    (tmp_path / "large.arch").write_text(BASE + "model large = base(width = 16)\n")
    assert archc.parse(tmp_path / "large.arch").name == "large"


def test_only_so_many_models_are_derived_in_one_file() -> None:
    def text(count: int) -> str:
        return BASE + "".join(f"model m{k} = base(width = {k + 1})\n" for k in range(count))

    assert shapes(text(200), "m199")["up.0.weight"] == (400, 200)
    with pytest.raises(ArchcError, match="the file derives 201 models; the limit is 200"):
        archc.parse(text(201), "base")

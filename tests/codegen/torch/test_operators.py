"""Emitted modules of single operators agree with the interpreter, in all cases of `tests/ops`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tests.ops
from archc.interpreter.evaluate import evaluate
from tests.codegen.torch_modules import assert_paths, imported
from tests.ops.harness import Case
from tests.ops.operands import draw_weights, one_node

MODULES = sorted(info.name for info in pkgutil.iter_modules(tests.ops.__path__) if info.name.startswith("test_"))


def cases(module: str) -> Iterator[Case]:
    for value in vars(importlib.import_module(f"tests.ops.{module}")).values():
        if isinstance(value, (list, tuple)):
            yield from (one for one in value if isinstance(one, Case))


@pytest.mark.parametrize("module", MODULES)
def test_emitted_operators_compute_what_their_spelling_does(module: str, tmp_path: Path) -> None:
    for number, one in enumerate(cases(module)):
        for axes in ([], one.symbolic) if any(one.symbolic) else ([],):
            graph = one_node(one.op, one.inputs, draw_weights(one.op, one.inputs, one.weights or {}), axes)
            folder = tmp_path / f"{number}_{bool(axes)}"
            folder.mkdir()
            model = imported(graph, folder).load()
            assert_paths(model, graph)
            inputs = {value.name or "": tensor for value, tensor in zip(graph.inputs, one.inputs)}
            with torch.no_grad():
                found = model(*one.inputs)
            expected = tuple(evaluate(graph, inputs).values())
            for result, wanted in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
                torch.testing.assert_close(result, wanted, rtol=one.rtol, atol=one.atol, equal_nan=True, msg=str(one))

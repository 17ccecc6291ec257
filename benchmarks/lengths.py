"""How long specs are, beside what they compile to and the source of `transformers`.

Lines of code are counted, not blank ones, comments and docstrings.  A spec's are those of its file and of the blocks
that it uses from elsewhere.  Of `transformers` there are two figures: the whole file that holds the model, and of it
the classes that the model is made of with the functions that they call; what the file imports from the rest of the
package counts in neither.  Such a file does more than a spec: it keeps keys and values for generation, loads published
weights, and knows the heads of a dozen tasks.

    python -m benchmarks.lengths [bert gpt2 ...]
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from typing import TYPE_CHECKING

import archc
from archc.compiler import open_module
from archc.diagnostics import Diagnostics
from archc.language.modules import Module
from benchmarks.processes import ROOT
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from torch import nn

MODELS = {
    "bert": "Bert",
    "minilm": "Bert",
    "gpt2": "GPT2LMHead",
    "llama": "LlamaForCausalLM",
    "vit": "ViTForImageClassification",
    "clip": "CLIP",
    "whisper": "WhisperForConditionalGeneration",
    "resnet50": "ResNetForImageClassification",
}
"""By spec what `transformers` calls the model, without a `Model` at its end."""

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def python_lines(source: str) -> int:
    """The lines of code of a Python source."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def arch_lines(text: str) -> int:
    """The lines of code of a text in archc's language."""
    return sum(bool(line.partition("#")[0].strip()) for line in text.splitlines())


def spec_lines(spec: str) -> tuple[int, int]:
    """The lines of a spec's file, and with them those of all blocks that it uses from other files."""
    path = ROOT / "specs" / f"{spec}.arch"
    graph = archc.parse(path)
    used = {scope.definition for node in graph.nodes() for scope in node.scope.ancestors()}
    module = open_module(path, Diagnostics())
    imported = {
        name: arch_lines(definition.span.source.text[definition.span.start : definition.span.end])
        for other in _imported(module)
        for name, definition in other.blocks.items()
        if name in used
    }
    own = arch_lines(module.source.text)
    return own, own + sum(imported.values())


def _imported(module: Module) -> Iterator[Module]:
    for other in module.imports.values():
        yield other
        yield from _imported(other)


def reference(spec: str) -> nn.Module:
    """The model of `transformers`, of its default size, without weights."""
    import torch
    import transformers

    name = MODELS[spec]
    family = re.sub(r"(LMHead|For[A-Z]\w+)$", "", name)
    model = getattr(transformers, name if "For" in name else f"{name}Model")
    with torch.device("meta"):
        built: nn.Module = model(getattr(transformers, f"{family}Config")())
    return built


def reference_lines(model: nn.Module) -> tuple[int, int]:
    """The lines of the file of a model, and those of its classes in use with the functions that they call."""
    file = importlib.import_module(type(model).__module__)
    source = inspect.getsource(file)
    found = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    waiting = {type(part).__name__ for part in model.modules() if type(part).__module__ == file.__name__}
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        used.add(name)
        called = {part.id for part in ast.walk(found[name]) if isinstance(part, ast.Name)} - used
        waiting |= {other for other in called if isinstance(found.get(other), ast.FunctionDef)}
    lines = source.splitlines(keepends=True)
    parts = ("".join(lines[found[name].lineno - 1 : found[name].end_lineno]) for name in used)
    return python_lines(source), sum(python_lines(part) for part in parts)


def row(spec: str) -> list[str]:
    own, whole = spec_lines(spec)
    compiled = archc.compile(ROOT / "specs" / f"{spec}.arch")
    generated = python_lines(compiled.sources()[f"{compiled.name}.py"])
    file, used = reference_lines(reference(spec))
    return [f"`{spec}`", *map(str, (own, whole, generated, used)), f"{file:,}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=f"of {', '.join(MODELS)} (default: all)")
    chosen = parser.parse_args().specs or list(MODELS)
    for spec in chosen:
        if spec not in MODELS:
            parser.error(f"there is no model to compare `{spec}` with; there are {', '.join(MODELS)}")
    head = ["lines of code", "spec", "with its blocks", "PyTorch from it", "`transformers`: in use", "the file"]
    print(markdown(head, [row(spec) for spec in chosen]))


if __name__ == "__main__":
    main()

"""Lines of code of specs, of the generated PyTorch, and of reference implementations.

Blank lines, comments and docstrings do not count.  A spec has two figures: its file, and its file with the imported
blocks that it uses or with its base model.  A reference implementation has two figures: the classes in use with the
functions that they call, and the whole file, if the file has no other network.  Other files of the package, from which
the file imports, do not count.  A file of `transformers` does more than a spec: it implements a key-value cache, loads
published weights, and defines heads for many tasks.

    python -m benchmarks.lengths [bert gpt2 ...] [--write]
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence

import archc
from archc.diagnostics import Diagnostics
from archc.driver.parsing import open_module
from archc.language.elaboration.modules import Module
from benchmarks.peers import PEERS
from benchmarks.processes import ROOT
from benchmarks.tables import markdown

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def python_lines(source: str) -> int:
    """Count the lines of code of a Python source."""
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
    """Count the lines of code of an `.arch` text."""
    return sum(bool(line.partition("#")[0].strip()) for line in text.splitlines())


def spec_lines(spec: str) -> tuple[int, int]:
    """Count the lines of code of a spec: without and with the definitions it uses from other files."""
    path = ROOT / "specs" / f"{spec}.arch"
    graph = archc.parse(path)
    used = {scope.definition for node in graph.nodes() for scope in node.scope.ancestors()}
    module = open_module(path, Diagnostics())
    imported = {
        name: arch_lines(definition.span.source.text[definition.span.start : definition.span.end])
        for other in _imported(module)
        for name, definition in other.definitions.items()
        if name in used and definition.kind == "block"
    }
    own = arch_lines(module.source.text)
    base = module.definitions[spec].span
    inherited = arch_lines(base.source.text[base.start : base.end]) if base.source is not module.source else 0
    return own, own + inherited + sum(imported.values())


def _imported(module: Module) -> Iterator[Module]:
    for other in module.imports.values():
        yield other
        yield from _imported(other)


def row(spec: str) -> list[str]:
    own, whole = spec_lines(spec)
    compiled = archc.compile(ROOT / "specs" / f"{spec}.arch")
    generated = python_lines(compiled.sources()[f"{compiled.name}.py"])
    peer = PEERS[spec]()
    used = sum(map(python_lines, peer.parts()))
    file = f"{python_lines(peer.source):,}" if peer.alone else "–"
    return [f"`{spec}`", *map(str, (own, whole, generated, used)), file, peer.package]


PAGES = [
    ROOT / "docs" / "reference" / "benchmarks.md",
    *sorted((ROOT / "docs" / "explanation" / "architectures").glob("*.md")),
]
"""Pages that contain rows of the table."""

_TABLE = re.compile(r"^\| lines of code \|.*\n\|[-: |]+\n(?:\|.*\n?)+", re.MULTILINE)


def renewed(page: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a page with new rows for these specs in its tables of lengths."""
    by_name = {cells[0]: f"| {' | '.join(cells)} |" for cells in rows}

    def renew(table: re.Match[str]) -> str:
        return "\n".join(by_name.get(line[2:].partition(" |")[0], line) for line in table[0].split("\n"))

    return _TABLE.sub(renew, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", metavar="SPEC", help=f"one or several of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--write", action="store_true", help="also update the tables in the docs")
    options = parser.parse_args()
    chosen = options.specs or list(PEERS)
    for spec in chosen:
        if spec not in PEERS:
            parser.error(f"there is no model to compare `{spec}` with; there are {', '.join(PEERS)}")
    head = ["lines of code", "spec", "with blocks", "generated PyTorch", "reference in use", "its file", "package"]
    rows = [row(spec) for spec in chosen]
    print(markdown(head, rows))
    for page in PAGES if options.write else ():
        page.write_text(renewed(page.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The parser's tables, made beforehand.

lark takes 0.1 s to read the grammar and work out its tables, which is much for an editor that checks on every
keystroke.  The tables are therefore kept beside the grammar as JSON, which takes a tenth of that to load and
cannot run code, as lark's own pickled form could.  They carry a fingerprint of the grammar and of lark's
version; where it does not match, the grammar is read as usual.

After a change to the grammar, `python -m archc.language.syntax.tables` writes them anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import lark
from lark import Lark, Transformer
from lark.grammar import Rule
from lark.lexer import TerminalDef

_STARTS = ["file", "pipeline_text", "value_text"]
_FOLDER = resources.files("archc.language.syntax")
_GRAMMAR = _FOLDER / "grammar.lark"
_TABLES = _FOLDER / "grammar.json"


def load_grammar(transformer: Transformer[Any, Any]) -> Lark:
    """lark's parser for the language, which calls `transformer` while it parses."""
    grammar = _GRAMMAR.read_text("utf-8")
    if _TABLES.is_file():
        tables = json.loads(_TABLES.read_text("utf-8"))
        if tables["fingerprint"] == _fingerprint(grammar):
            data = tables["data"]
            data["parser"]["parser"]["states"] = _numbered(data["parser"]["parser"]["states"])
            # What lark's own `load` does once it has unpickled; lark does not annotate it.
            load: Callable[..., Lark] = Lark._load_from_dict
            return load(data, _numbered(tables["memo"]), transformer=transformer)
    return _build(grammar, transformer)


def make_tables() -> str:
    """What the file of tables holds.  (lark numbers states differently on every run; any numbering will do.)"""
    grammar = _GRAMMAR.read_text("utf-8")
    data, memo = _build(grammar, None).memo_serialize([TerminalDef, Rule])
    tables = {"fingerprint": _fingerprint(grammar), "data": data, "memo": memo}
    return json.dumps(tables, separators=(",", ":")) + "\n"


def _numbered(table: dict[str, Any]) -> dict[int, Any]:
    """The table with its numbers as keys again: JSON has only text for keys."""
    return {int(key): value for key, value in table.items()}


def _build(grammar: str, transformer: Transformer[Any, Any] | None) -> Lark:
    return Lark(grammar, parser="lalr", lexer="basic", start=_STARTS, transformer=transformer)


def _fingerprint(grammar: str) -> str:
    return hashlib.sha256(f"{lark.__version__}\n{grammar}".encode()).hexdigest()


if __name__ == "__main__":
    from pathlib import Path

    Path(str(_TABLES)).write_text(make_tables(), "utf-8")

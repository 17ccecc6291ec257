"""Precomputed LALR(1) tables of the grammar.

lark takes 0.1 s to read the grammar and compute its tables: too slow for an editor that checks on every keystroke.
`grammar.json` stores the tables.  JSON loads in a tenth of that time, and, unlike lark's pickled form, cannot run code.
The file has a fingerprint of the grammar and of lark's version; if it does not match, the tables are computed again.

After a change to the grammar, run `python -m archc.language.syntax.tables` to update `grammar.json`.
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
    """lark parser of the language, which calls `transformer` on each reduction."""
    grammar = _GRAMMAR.read_text("utf-8")
    if _TABLES.is_file():
        tables = json.loads(_TABLES.read_text("utf-8"))
        if tables["fingerprint"] == _fingerprint(grammar):
            data = tables["data"]
            data["parser"]["parser"]["states"] = _numbered(data["parser"]["parser"]["states"])
            # `Lark.load` calls this method after unpickling.  The method has no type annotation in lark.
            load: Callable[..., Lark] = Lark._load_from_dict
            return load(data, _numbered(tables["memo"]), transformer=transformer)
    return _build(grammar, transformer)


def make_tables() -> str:
    """Text of `grammar.json`.

    lark numbers the states differently on every run, so two results differ.
    """
    grammar = _GRAMMAR.read_text("utf-8")
    data, memo = _build(grammar, None).memo_serialize([TerminalDef, Rule])
    tables = {"fingerprint": _fingerprint(grammar), "data": data, "memo": memo}
    return json.dumps(tables, separators=(",", ":")) + "\n"


def _numbered(table: dict[str, Any]) -> dict[int, Any]:
    """Table with integer keys, which JSON stores as text."""
    return {int(key): value for key, value in table.items()}


def _build(grammar: str, transformer: Transformer[Any, Any] | None) -> Lark:
    return Lark(grammar, parser="lalr", lexer="basic", start=_STARTS, transformer=transformer)


def _fingerprint(grammar: str) -> str:
    return hashlib.sha256(f"{lark.__version__}\n{grammar}".encode()).hexdigest()


if __name__ == "__main__":
    from pathlib import Path

    Path(str(_TABLES)).write_text(make_tables(), "utf-8")

"""Diagnostics for Python statements that the language lacks: bracketed targets, item assignment, method calls."""

from __future__ import annotations

import re

from archc.diagnostics import Diagnostic, Source, Span
from archc.language.syntax.translate import member_help

_LONGEST = 200  # characters of a line that are searched
_TARGET = re.compile(r"\s*(?P<target>[^=#\n]*?[^=#\s!<>:+\-*/])\s*=(?!=)")
_SEVERAL = re.compile(r"[\[(]?[\w\s,()\[\]]*,[\w\s,()\[\]]*")
_PART = re.compile(r"[A-Za-z_][\w.]*\[[^\]]*\]")
_MEMBER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_CALL = re.compile(r"\s*(?P<call>(?P<owner>[A-Za-z_]\w*)\.(?P<method>[A-Za-z_]\w*)\s*\((?P<argument>.*)\))")

_GROWS = {"append": "({},)", "extend": "{}", "add": "({},)", "push": "({},)", "insert": "({},)"}
"""Methods by which a list grows, each with the tuple to add instead."""


def foreign_statement(source: Source, offset: int) -> Diagnostic | None:
    """The diagnostic for a Python statement on the line where the parser stopped; None for any other line.

    Args:
        offset: the character at which it stopped.
    """
    start = max(source.text.rfind(sign, 0, offset) for sign in "\n{}") + 1
    line = source.text[start : start + _LONGEST].partition("\n")[0]
    target = _TARGET.match(line)
    if target is not None and start + target.end() > offset:
        return _target(Span(source, start + target.start("target"), start + target.end("target")))
    call = _CALL.match(line)
    if call is not None and start + call.end("owner") <= offset <= start + call.end("method"):
        return _method(call, Span(source, start + call.start("call"), start + call.end("method")))
    return None


def _target(span: Span) -> Diagnostic | None:
    target = span.text
    if _SEVERAL.fullmatch(target) and not target.replace(",", "").replace(" ", "").isidentifier():
        names = ", ".join(re.findall(r"[A-Za-z_]\w*", target))
        help_ = f"write the names side by side, without brackets: `{names} = ...`"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot come before `=`", span, (), help_)
    if _PART.fullmatch(target):
        help_ = "write `(mask, x, y) -> where` to choose between two, or `(x, index, y) -> scatter(1)` to set elements"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot be given a value", span, (), help_)
    if _MEMBER.fullmatch(target):
        help_ = "tensors have plain names, and a layer's name comes before its operator: `x -> fc: linear(10)`"
        return Diagnostic("error", "syntax-error", f"`{target}` cannot be given a value", span, (), help_)
    return None


def _method(call: re.Match[str], span: Span) -> Diagnostic:
    owner, method, argument = call["owner"], call["method"], call["argument"].strip()
    grown = _GROWS.get(method)
    if grown is not None and argument:
        item = argument.partition(",")[2].strip() if method == "insert" else argument
        more = item if item.startswith("(") else grown.format(item)
        help_ = f"a tuple grows by a tuple: `{owner} = {owner} + {more}`; it begins as `{owner} = ()`"
    else:
        told = member_help(method.rstrip("_"))
        help_ = f"give the result a name: `{owner} = {owner} -> ...`" + (f"; {told}" if told else "")
    return Diagnostic(
        "error", "syntax-error", f"`{span.text}(...)` is not a statement of the language", span, (), help_
    )

"""Delta debugging of a failing text, over its statements, stages, attributes and numbers.

The method is that of Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input".  A smaller text
is kept if it fails in the same way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import archc
from archc.diagnostics import ArchcError
from tests.fuzz.writing import declared_type

Fails = Callable[[str], bool]


def minimized(text: str, fails: Fails, seconds: float = 60.0) -> str:
    """Shrink a text until no step makes it smaller, or the time is up.

    Args:
        fails: returns whether a text fails in the same way.
        seconds: processor time limit.
    """
    end = time.process_time() + seconds
    steps = (_without_lines, _inputs_for_statements, _inlined, _without_stages, _without_arguments, _smaller_numbers)
    smaller = True
    while smaller and time.process_time() < end:
        smaller = False
        for step in steps:
            shrunk = _shrunk(text, step, fails, end)
            smaller = smaller or shrunk != text
            text = shrunk
    return text


def _shrunk(text: str, step: Callable[[str], Iterator[str]], fails: Fails, end: float) -> str:
    """Repeat one kind of step while it makes progress."""
    progress = True
    while progress:
        progress = False
        for candidate in step(text):
            if time.process_time() > end:
                return text
            if candidate != text and valid(candidate) and fails(candidate):
                text, progress = candidate, True
                break
    return text


def valid(text: str) -> bool:
    try:
        archc.parse(text)
    except ArchcError:
        return False
    except Exception:
        return True  # a parser crash may be the failure to reproduce
    return True


def _without_lines(text: str) -> Iterator[str]:
    """Texts without a run of lines, long runs first; braced statements go with or without their body."""
    lines = text.splitlines()
    size = max(len(lines) // 2, 1)
    while size:
        for start in range(0, len(lines) - size + 1, max(size // 2, 1)):
            yield "\n".join([*lines[:start], *lines[start + size :]]) + "\n"
        size //= 2
    for start, line in enumerate(lines):
        if line.endswith("{"):
            depth = len(line) - len(line.lstrip())
            close = next(k for k in range(start + 1, len(lines)) if lines[k] == " " * depth + "}")
            yield "\n".join([*lines[:start], *lines[close + 1 :]]) + "\n"
            body = [inner.removeprefix("    ") for inner in lines[start + 1 : close] if "yield" not in inner]
            yield "\n".join([*lines[:start], *body, *lines[close + 1 :]]) + "\n"
    yield from _without_assignments(lines)


def _without_assignments(lines: list[str]) -> Iterator[str]:
    """Texts without one statement, with its result replaced by its first operand."""
    for number, line in enumerate(lines):
        match = re.match(r"\s+(\w+) = \(?(\w+)\b(?! = )", line)
        if match:
            rest = [re.sub(rf"\b{match[1]}\b", match[2], other) for other in lines[number + 1 :]]
            yield "\n".join([*lines[:number], *rest]) + "\n"


def _inlined(text: str) -> Iterator[str]:
    """Texts with one use of a block inlined, for blocks of one input and one output."""
    blocks = re.findall(r"^block (\w+)[^\n]*\n    input (\w+)[^\n]*\n(.*?)    output ([^\n]*)\n}", text, re.M | re.S)
    for name, input_, body, output in blocks:
        for use in re.finditer(rf"^( +)(\w+) = (\w+) -> (?:\w+: )?{name}(?:\([^)]*\))?$", text, re.MULTILINE):
            inner = re.sub(rf"\b{input_}\b", use[3], f"{body}    {use[2]} = {output}")
            yield text[: use.start()] + inner + text[use.end() :]


def _inputs_for_statements(text: str) -> Iterator[str]:
    """Texts with one statement of the model replaced by inputs."""
    lines = text.splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith("model ")), len(lines))
    for number in range(len(lines) - 1, start, -1):
        match = re.match(r"    (\w+(?:, \w+)*) = ", lines[number])
        if match is None:
            continue
        names = match[1].split(", ")
        types = _types("\n".join(lines[:number]), names)
        if types is not None:
            inputs = [f"    input {name}: {type}" for name, type in zip(names, types)]
            rest = [*lines[start + 1 : number], *lines[number + 1 :]]
            yield "\n".join([*lines[: start + 1], *inputs, *rest]) + "\n"


def _types(text: str, names: list[str]) -> list[str] | None:
    """Types of tensors at the end of an unfinished text; None if the text is invalid."""
    outputs = "\n".join(f"    output probe{number} = {name}" for number, name in enumerate(names))
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("    output "))
    last = re.findall(r"^    (\w+(?:, \w+)*) = ", kept, re.MULTILINE)
    try:
        graph = archc.parse(f"{text}\n{outputs}\n}}\n") if last else None
    except ArchcError:
        return None
    if graph is None:
        return None
    return [declared_type(graph.outputs[f"probe{number}"].type) for number in range(len(names))]


def _without_stages(text: str) -> Iterator[str]:
    """Texts without one stage of a chain."""
    for match in re.finditer(r" -> [^\n]*?(?= -> |\n| \})", text):
        yield text[: match.start()] + text[match.end() :]


def _without_arguments(text: str) -> Iterator[str]:
    """Texts without one named argument, label or bound."""
    for pattern in (
        r", \w+ = [^,()]+(?=[,)])",
        r", \w+ = \([^()]*\)",
        r"(?<=\()\w+ = [^,()]+(?:, )?",
        r" <= \d+",
        r"\w+: (?=\w+\()",
    ):
        for match in re.finditer(pattern, text):
            yield (text[: match.start()] + text[match.end() :]).replace("()", "", 1)


def _smaller_numbers(text: str) -> Iterator[str]:
    """Texts with one smaller number, or with a symbolic size replaced by a number."""
    for match in re.finditer(r"(?<![\w.])\d+(?![\w.])", text):
        number = int(match[0])
        for smaller in dict.fromkeys((0, 1, 2, number // 2, number - 1)):
            if 0 <= smaller < number:
                yield text[: match.start()] + str(smaller) + text[match.end() :]
    for name in ("N", "T", "H", "S"):
        for size in ("1", "2"):
            yield re.sub(rf"(?<=[\[ (]){name}(?: <= \d+)?(?=[\],)])", size, text)

"""Explanations of diagnostic codes, one Markdown file each: `codes/GROUP/CODE.md`.

    # Summary in one line

    What the code means and why it occurs.

    ```arch net.arch
    model net { ... }
    ```

    ```console
    $ archc check net.arch
    error[...]: ...
    exit status 1
    ```

    The way out.

    ```arch net.arch
    model net { ... }
    ```

The fences up to the first `console` fence are the example: its files, and its commands with their output.  The commands
may run a Python file of the example first (`$ python make.py`).  The later fences are the correction: the corrected
files, and commands if they differ from those of the example.  Some codes have no example and no fences.  The last
paragraph is then the way out, and the summary of a warning ends with `(warning)`.  Tests run the example and the
correction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from archc.frozen_dataclass import frozen_dataclass

FOLDER = Path(__file__).parent / "codes"

GROUPS = {
    "syntax": "Syntax",
    "names": "Names and definitions",
    "values": "Attributes and values",
    "shapes": "Shapes and dtypes",
    "scans": "Scans",
    "files": "Files and imports",
    "limits": "Limits",
    "passes": "Passes and pipelines",
    "stages": "Stages and devices",
    "sizes": "Sizes of a run",
    "weights": "Weights",
    "calibration": "Calibration data",
    "output": "Output and its check",
    "commands": "Commands and the system",
}
"""Titles of the groups, by the names of their folders, in the order of the list of `archc explain`."""

_FENCE = re.compile(r"^```(?P<kind>\w+)(?: (?P<name>\S+))?\n(?P<body>.*?)^```$\n*", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "


@frozen_dataclass
class Run:
    """Files, the commands that are run on them, and the output of the last command.

    Attributes:
        files: the text of each file, by its name.
        commands: the commands without the prompt; empty for a correction that changes only files.
        output: the output of the last command; its last line is `exit status N`.
    """

    files: dict[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    output: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON object for `--json`."""
        return {"files": self.files, "commands": list(self.commands), "output": self.output}


@frozen_dataclass
class Explanation:
    """Explanation of one code.

    Attributes:
        summary: one line without a final period.
        severity: `warning` if the example shows a warning, or if a summary without example ends with `(warning)`.
        text: what the code means and why it occurs.
        example: files and commands that yield the diagnostic; None for a code without example.
        way: the way out in words.
        correction: the corrected files, and the commands if these differ from the example's.
        body: the Markdown below the summary.
    """

    code: str
    group: str
    summary: str
    severity: Literal["error", "warning"]
    text: str
    example: Run | None
    way: str
    correction: Run
    body: str

    def to_json(self) -> dict[str, Any]:
        """JSON object for `--json`."""
        return {
            **self.summary_json(),
            "text": self.text,
            "example": self.example and self.example.to_json(),
            "way_out": self.way,
            "correction": self.correction.to_json(),
        }

    def summary_json(self) -> dict[str, Any]:
        """JSON object of code, severity, group and summary."""
        return {"code": self.code, "severity": self.severity, "group": GROUPS[self.group], "summary": self.summary}


def codes() -> list[str]:
    """All codes that have an explanation, in alphabetical order."""
    return sorted(path.stem for path in _paths())


def explanation(code: str) -> Explanation | None:
    """The explanation of a code; None for a code without an explanation."""
    path = next((path for path in _paths() if path.stem == code), None)
    return None if path is None else _read(path)


def explanations() -> dict[str, list[Explanation]]:
    """All explanations by group, in alphabetical order within a group."""
    found: dict[str, list[Explanation]] = {group: [] for group in GROUPS}
    for path in sorted(_paths()):
        found[path.parent.name].append(_read(path))
    return found


def _paths() -> Iterator[Path]:
    return FOLDER.glob("*/*.md")


def _read(path: Path) -> Explanation:
    return parse(path.read_text(encoding="utf-8"), path.stem, path.parent.name)


def parse(markdown: str, code: str, group: str) -> Explanation:
    """Parse an explanation from Markdown; the docstring of this module shows the form."""
    heading, _, body = markdown.partition("\n")
    summary = heading.removeprefix("# ")
    runs = [_Fences(), _Fences()]
    part = 0
    end = 0
    for fence in _FENCE.finditer(body):
        runs[part].prose += body[end : fence.start()]
        end = fence.end()
        if fence["kind"] == "console":
            runs[part].console = fence["body"]
            part = 1
        elif fence["name"]:
            runs[part].files[fence["name"]] = fence["body"]
    runs[part].prose += body[end:]
    example, correction = runs
    if part == 0:
        text, _, way = body.strip().rpartition("\n\n")
        short = summary.removesuffix(" (warning)")
        severity: Literal["error", "warning"] = "error" if short == summary else "warning"
        return Explanation(code, group, short, severity, text, None, way, Run(), body.strip())
    shown = example.run()
    return Explanation(
        code,
        group,
        summary,
        "warning" if f"warning[{code}]" in shown.output else "error",
        example.prose.strip(),
        shown,
        correction.prose.strip(),
        correction.run(),
        body.strip(),
    )


@dataclass
class _Fences:
    """The fences of the example or of the correction, collected while the text is parsed."""

    prose: str = ""
    files: dict[str, str] = field(default_factory=dict)
    console: str = ""

    def run(self) -> Run:
        lines = self.console.splitlines(keepends=True)
        count = next((k for k, line in enumerate(lines) if not line.startswith(_PROMPT)), len(lines))
        commands = tuple(line.removeprefix(_PROMPT).rstrip("\n") for line in lines[:count])
        return Run(self.files, commands, "".join(lines[count:]))

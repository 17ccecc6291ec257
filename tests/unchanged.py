"""Comparison of the outputs of archc at two commits, without comments, docstrings and messages.

    python -m tests.unchanged against HEAD~1     # this checkout against a commit
    python -m tests.unchanged write base.json    # save the hashes of this checkout
    python -m tests.unchanged compare base.json  # compare this checkout with saved hashes

Every spec is compiled at its small sizes with every pipeline of `tests.compilation_hashes.PIPELINES`, and every
written file is hashed.  A Python file has two hashes: of its syntax tree, and of its text without blank lines, which
shows changes of the layout.  A pipeline that is refused is represented by its error codes.

`--texts FOLDER` saves what was hashed, for `diff -r`; `--specs cnn,gpt2` restricts the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.compilation_hashes import ROOT, Hashes, compute

COPIED = ("tests/unchanged.py", "tests/compilation_hashes.py", "tests/normal_forms.py", "tests/specs/siblings.py")
"""Files of this tool, which are copied into the worktree of the other commit."""


def differences(before: Hashes, after: Hashes) -> list[str]:
    """A line for each entry that differs."""
    lines = []
    for case in sorted({*before, *after}):
        old, new = before.get(case, {}), after.get(case, {})
        for entry in sorted({*old, *new}):
            if entry not in new:
                lines.append(f"{case}: {entry} is missing")
            elif entry not in old:
                lines.append(f"{case}: {entry} is new")
            elif old[entry] != new[entry]:
                lines.append(f"{case}: {entry} differs")
    return lines


def write_at(commit: str, file: Path, arguments: list[str]) -> None:
    """Write the hashes of a commit into a file, with this tool in a temporary worktree.

    Raises:
        SystemExit: there is no such commit, or the run there fails.
    """
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        if subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit]).returncode:
            sys.exit(f"error: no worktree of {commit}")
        try:
            for copied in COPIED:
                shutil.copy(ROOT / copied, tree / copied)
            command = [sys.executable, "-m", "tests.unchanged", "write", str(file.absolute()), *arguments]
            if subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}).returncode:
                sys.exit(f"error: the run at {commit} failed")
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.unchanged", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, operand, what in (
        ("write", "FILE", "save the hashes of this checkout"),
        ("compare", "FILE", "compare this checkout with saved hashes"),
        ("against", "COMMIT", "compare this checkout with a commit"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("operand", metavar=operand)
        command.add_argument("--specs", default="", help="the specs to compile, such as `cnn,gpt2` (default: all)")
        command.add_argument("--texts", type=Path, metavar="FOLDER", help="save what is hashed in this folder")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worktree is removed
    specs = [name for name in arguments.specs.split(",") if name]
    if arguments.command == "write":
        written = compute(specs, arguments.texts)
        Path(arguments.operand).write_text(json.dumps(written, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    texts: Path | None = arguments.texts
    if arguments.command == "against":
        with TemporaryDirectory() as folder:
            file = Path(folder) / "before.json"
            options = ["--specs", arguments.specs]
            if texts is not None:
                options += ["--texts", str((texts / "before").absolute())]
                texts = texts / "after"
            write_at(arguments.operand, file, options)
            before = json.loads(file.read_text(encoding="utf-8"))
    else:
        before = json.loads(Path(arguments.operand).read_text(encoding="utf-8"))
        if specs:
            before = {case: found for case, found in before.items() if case.partition("|")[0] in specs}
    found = differences(before, compute(specs, texts))
    print("\n".join(found) if found else f"no difference in {len(before)} cases")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

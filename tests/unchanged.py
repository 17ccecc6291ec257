"""Comparison of the outputs of archc at two commits, without comments, docstrings and messages.

    python -m tests.unchanged against HEAD~1     # this checkout against a commit
    python -m tests.unchanged write base.json    # save the hashes of this checkout
    python -m tests.unchanged compare base.json  # compare this checkout with saved hashes

Every spec is compiled at its small sizes with every pipeline of `PIPELINES`, and every written file is hashed.  A
Python file has two hashes: of its syntax tree, and of its text without blank lines, which shows changes of the layout.
A pipeline that is refused is represented by its error codes.

`--texts FOLDER` saves what was hashed, for `diff -r`; `--specs cnn,gpt2` restricts the run.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import hashlib
import importlib
import io
import itertools
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import tokenize
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

PIPELINES = [
    "",
    "simplify",
    "fold",
    "lowrank",
    "lowrank(ratio = 0.25)",
    "prune(0.5)",
    "prune(0.3, scheme = 'channel')",
    "quant(least = 0)",
    "quant(scheme = 'weight')",
    "fold, quant(least = 0)",
    "partition(2)",
    "fold, lowrank, quant(least = 0), partition(2)",
]

CATALOGS = ["ops", "passes"]
"""Commands whose `--json` output is compared too."""

Hashes = dict[str, dict[str, str]]
"""Hashes by case (`spec|pipeline`) and file."""

COMPILATION = rb"""(COMPILATION = "|"compilation":")[0-9a-f]{32}"""
"""Identifier of a compilation, in the programs of stages and in the metadata of their weights."""

MESSAGE = "…"
"""Replacement of messages."""


# Normal forms of the written files.


def normal_forms(name: str, content: bytes) -> dict[str, bytes]:
    """The parts of a written file that must not change, by entry name.

    Args:
        name: the file name, whose suffix selects the normal form; files of unknown kinds do not change.
    """
    # The identifier of a compilation is a hash of the printed graph, comments included.
    content = re.sub(COMPILATION, rb"\g<1>" + b"0" * 32, content)
    if name == "report.json":
        return {name: dump(normal_report(json.loads(content)))}
    suffix = Path(name).suffix
    if suffix == ".py":
        program, layout = normal_python(content.decode())
        return {name: program.encode(), f"{name} (layout)": layout.encode()}
    if suffix == ".arch":
        return {name: normal_arch(content.decode()).encode()}
    if suffix == ".onnx":
        return {name: normal_onnx(content)}
    return {name: content}


def normal_python(text: str) -> tuple[str, str]:
    """Two forms of a program without comments, docstrings and messages: without and with layout.

    The form with the layout has the lines of the text, without blank lines.  `ast.unparse` lays out a statement with a
    message, since the length of the message determines the line breaks in the text.
    """
    tree = ast.parse(text)
    normalizer = _Normalizer()
    normalizer.visit(tree)
    lines = text.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]

    def place(line: int, column: int) -> int:
        """Index into the text of a position in the syntax tree, whose columns count bytes."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    cuts = [(place(*start), place(*end), new) for start, end, new in normalizer.rewritten]
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    for comment in comments:
        start = starts[comment.start[0] - 1] + comment.start[1]
        if not any(first <= start < end for first, end, _ in cuts):
            cuts.append((start, start + len(comment.string), ""))
    for start, end, new in sorted(cuts, reverse=True):
        text = text[:start] + new + text[end:]
    return ast.unparse(tree), _without_blank_lines(text)


class _Normalizer(ast.NodeTransformer):
    """Remove docstrings, and replace messages by a placeholder.

    Messages are the strings in `raise` and `assert` statements, in calls of `print`, `warn` and `error`, and in the
    arguments by which argparse takes help texts.

    Attributes:
        rewritten: start, end (line and column each) and new text of each removed or changed statement without a body.
    """

    HELP = {"help", "description", "epilog"}
    CALLS = {"print", "warn", "error"}

    def __init__(self) -> None:
        self.rewritten: list[tuple[tuple[int, int], tuple[int, int], str]] = []
        self._replacer = _Replacer()

    def visit(self, node: ast.AST) -> Any:
        before = self._replacer.count
        node = super().visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_idle(statement)]
            node.body = kept if kept or isinstance(node, ast.Module) else [ast.Pass()]  # type: ignore[attr-defined]
        elif isinstance(node, ast.stmt) and (_is_idle(node) or self._replacer.count > before):
            assert node.end_lineno is not None and node.end_col_offset is not None, "parsed statements have an end"
            new = "" if _is_idle(node) else ast.unparse(node)
            self.rewritten.append(((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset), new))
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._replacer.visit(node)  # type: ignore[no-any-return]

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = self._replacer.visit(node.msg) if node.msg is not None else None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None)
        if name in self.CALLS:
            node.args = [self._replacer.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg in self.HELP:
                keyword.value = self._replacer.message()
        return node


class _Replacer(ast.NodeTransformer):
    """Replace strings by a placeholder, and count them."""

    count = 0

    def message(self) -> ast.Constant:
        self.count += 1
        return ast.Constant(MESSAGE)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return self.message() if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return self.message()


def _is_idle(node: ast.AST) -> bool:
    """Return whether a statement is a docstring, also one of a variable, or the `pass` in its place."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def normal_arch(text: str) -> str:
    """The text without comments and blank lines."""
    tokens = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#[^\n]*""")
    return _without_blank_lines(tokens.sub(lambda match: "" if match[0].startswith("#") else match[0], text))


def _without_blank_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def normal_onnx(content: bytes) -> bytes:
    """The model without its `doc_string` fields."""
    import onnx

    model = onnx.load_model_from_string(content)
    return model.SerializeToString(deterministic=True) if _clear_doc_strings(model) else content


def _clear_doc_strings(message: Any) -> bool:
    """Clear the `doc_string` fields of a message and of all messages in it; return whether there were any."""
    found = False
    for field, value in message.ListFields():
        if field.name == "doc_string":
            message.ClearField("doc_string")
            found = True
        elif field.message_type is not None:
            for each in value if isinstance(value, Iterable) else [value]:
                found |= _clear_doc_strings(each)
    return found


def normal_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report without sentences, places in the spec, and hashes of files.

    The files have normal forms of their own.
    """
    normal = {name: value for name, value in report.items() if name not in ("weights", "calibration")}
    normal["passes"] = [
        {**step, "remarks": [without(remark, "message", "notes", "help") for remark in step["remarks"]]}
        for step in report["passes"]
    ]
    normal["warnings"] = [[warning["severity"], warning["code"]] for warning in report["warnings"]]
    normal["check"] = sorted(report["check"])
    normal["files"] = list(report["files"])
    return normal


def normal_catalog(described: Any) -> Any:
    """The output of `archc ops --json` or `archc passes --json` without sentences."""
    if isinstance(described, list):
        return [normal_catalog(item) for item in described]
    if isinstance(described, dict):
        return {name: normal_catalog(value) for name, value in without(described, "doc", "summary", "text").items()}
    return described


def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


# Import of archc from this checkout, even if another checkout is installed.


@dataclass(frozen=True)
class _Folders(MetaPathFinder):
    """Import packages from given folders."""

    folders: Mapping[str, Path]

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.folders:
            return None
        folder = self.folders[fullname]
        return spec_from_file_location(fullname, folder / "__init__.py", submodule_search_locations=[str(folder)])


@contextlib.contextmanager
def own_archc() -> Iterator[None]:
    """Import archc, its passes and entry points from this checkout; verify the origin of all modules.

    An editable install may belong to another checkout.  The folders of the packages and the entry points are therefore
    those that the `pyproject.toml` of this checkout lists.

    Raises:
        SystemExit: a module of archc came from elsewhere.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layout = settings["tool"]["setuptools"].get("package-dir", {})
    folders = {"archc": ROOT / layout.get("", "") / "archc"}
    folders |= {package: ROOT / folder for package, folder in layout.items() if package}
    finder = _Folders(folders)
    sys.meta_path.insert(0, finder)
    with TemporaryDirectory() as folder:
        info = Path(folder) / "archc-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: archc\nVersion: 0\n", encoding="utf-8")
        with (info / "entry_points.txt").open("w", encoding="utf-8") as stream:
            for group, entries in settings["project"].get("entry-points", {}).items():
                print(f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), sep="\n", file=stream)
        sys.path.insert(0, folder)
        try:
            say(f"archc is {importlib.import_module('archc').__file__}\n")
            yield
        finally:
            sys.path.remove(folder)
            sys.meta_path.remove(finder)
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == "archc" and file is not None and ROOT not in Path(file).resolve().parents:
            sys.exit(f"error: {name} was imported from {file}, not from {ROOT}")


# Hashes.


Keep = Callable[[str, str, bytes], None]
"""A function of case, entry name and normal form."""


def compute(specs: Iterable[str] = (), texts: Path | None = None) -> Hashes:
    """The hashes of this checkout.

    Args:
        specs: names of specs; by default all.
        texts: a folder to save the normal forms in.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    chosen = list(specs)
    hashes: Hashes = {}

    def keep(case: str, entry: str, normal: bytes) -> None:
        hashes.setdefault(case, {})[entry] = hashlib.sha256(normal).hexdigest()[:16]
        if texts is not None:
            path = texts / re.sub(r"[^\w.,=()]+", "_", case) / entry
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(normal)

    with own_archc():
        import torch

        from tests.specs.siblings import SPECS

        torch.set_num_threads(1)
        gc.freeze()
        gc.disable()  # a collection after each spec suffices
        paths = sorted(path for path in SPECS.glob("*.arch") if not chosen or path.stem in chosen)
        begin = time.monotonic()
        for number, path in enumerate(paths):
            say(f"\r{number}/{len(paths)} specs, {time.monotonic() - begin:.0f} s: {path.stem:20}", passing=True)
            for pipeline in PIPELINES:
                keep_case(path, pipeline, keep)
            gc.collect()
        for command in CATALOGS if not chosen else ():
            keep(f"archc {command}", "json", dump(normal_catalog(catalog(command))))
        say(f"\r{len(hashes)} cases in {time.monotonic() - begin:.0f} s{'':20}\n")
    return hashes


def keep_case(path: Path, pipeline: str, keep: Keep) -> None:
    """Compile a spec with a pipeline, and keep the normal forms of all files."""
    import archc
    from tests.specs.siblings import sibling

    case = f"{path.stem}|{pipeline}"
    with TemporaryDirectory() as folder:
        try:
            compiled = archc.compile(path, set=sibling(path), passes=pipeline, seed=0)
            try:
                compiled.write(folder, check=False)
            except archc.ArchcError as refusal:  # one target refused the model: compare the others
                keep(case, "refused by a target", codes(refusal))
                compiled.write(folder, emit="torch,arch", check=False)
        except archc.ArchcError as refusal:
            keep(case, "refused", codes(refusal))
        except Exception as failure:  # a bug in archc: compare its type
            traceback.print_exc()
            keep(case, "failed", type(failure).__name__.encode())
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                for entry, normal in normal_forms(file.name, file.read_bytes()).items():
                    keep(case, entry, normal)


def codes(refusal: Any) -> bytes:
    return " ".join(diagnostic.code for diagnostic in refusal.diagnostics).encode()


def catalog(command: str) -> Any:
    """The JSON that an `archc` command prints."""
    printed = io.StringIO()
    arguments, sys.argv = sys.argv, ["archc", command, "--json"]
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            runpy.run_module("archc", run_name="__main__")
    finally:
        sys.argv = arguments
    return json.loads(printed.getvalue())


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
            for copied in ("tests/unchanged.py", "tests/specs/siblings.py"):
                shutil.copy(ROOT / copied, tree / copied)
            command = [sys.executable, "-m", "tests.unchanged", "write", str(file.absolute()), *arguments]
            if subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}).returncode:
                sys.exit(f"error: the run at {commit} failed")
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def say(text: str, passing: bool = False) -> None:
    """Print to stderr.

    Args:
        passing: the next text overwrites this one, so it is printed only on a terminal.
    """
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)
    elif not passing:
        print(text.strip(), file=sys.stderr, flush=True)


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

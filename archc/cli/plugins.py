"""`--load`: Python files that define operators, passes or targets of the user."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from archc.cli.options import warn_without_effect
from archc.diagnostics import Diagnostics, error


def load_plugins(paths: Sequence[str], diagnostics: Diagnostics) -> None:
    """Run the files, which register operators, passes and targets; warn of a file that registers nothing.

    Raises:
        ArchcError: a file cannot be read (see `archc.language.elaboration.loading.load`) or fails (`plugin-failed`).
    """
    for path in paths:
        _load(Path(path), diagnostics)


def _load(path: Path, diagnostics: Diagnostics) -> None:
    from archc.cli.plugin_declarations import check_declaration, registered
    from archc.language.elaboration.loading import load

    source = load(path, suffix=".py")
    # With the prefix, a file called `torch.py` does not hide the module `torch`.
    name = f"archc_plugins.{path.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None, "without a loader there is always a spec"
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look the module up here to resolve annotations
    before = registered()
    line: int | None
    try:
        exec(compile(source.text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as failure:  # the user's code may raise any exception
        del sys.modules[name]
        line = _line(failure, str(path))
        raise error(
            "plugin-failed",
            f"`{path}` cannot be loaded: {type(failure).__name__}: {failure}",
            notes=[f"in line {line} of `{path}`"] if line is not None else (),
        ) from failure
    new = [one for one in registered() if not any(one is known for known in before)]
    for one in new:
        try:
            check_declaration(one)
        except (TypeError, ValueError) as mistake:
            line = _line_of_class(source.text, one) if getattr(one, "__module__", "") == name else None
            raise error(
                "plugin-failed",
                f"`{path}` cannot be loaded: {mistake}",
                notes=[f"in line {line} of `{path}`"] if line is not None else (),
            ) from mistake
    if not new:
        warn_without_effect(
            diagnostics,
            f"load {path}",
            "because the file defines no operator, pass or target",
            "an operator has the base class `archc.Operator` and the decorator `@archc.operator`, a pass has the base"
            " class `archc.Pass`, and a target is registered with `archc.register_target`",
        )


def _line(failure: BaseException, path: str) -> int | None:
    """The line number in a file at which a failure occurred; None if the line is unknown.

    For a failure in a module that the file imports, this is the line of the import.
    """
    if isinstance(failure, SyntaxError) and failure.filename == path:
        return failure.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None


def _line_of_class(text: str, found: object) -> int | None:
    """The line number at which a class is defined; None if it is defined in no class statement."""
    name = getattr(found, "__name__", None)
    classes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    return next((node.lineno for node in classes if node.name == name), None)

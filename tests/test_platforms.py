"""Import of archc on systems that lack the modules of POSIX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules of the standard library that Windows lacks (https://docs.python.org/3/library/unix.html)."""

IMPORT_ALL = """
import importlib, sys
blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
for name in blocked:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
for name in modules:
    importlib.import_module(name)
print(len(modules))
"""


def modules() -> list[str]:
    """Names of all modules of archc and its passes that have no effect when they are imported."""
    own = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "archc").rglob("*.py"))]
    passes = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "passes").rglob("*.py"))]
    names = [".".join(path.parts) for path in own] + [f"archc.{'.'.join(path.parts)}" for path in passes]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_every_module_is_imported_without_the_modules_of_posix() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(POSIX_ONLY), ",".join(modules())]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 200

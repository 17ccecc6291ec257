"""Hashes of the files that archc writes for each spec and pipeline, and of its catalogs.

Every spec is compiled at its small sizes with every pipeline of `PIPELINES`.  The normal forms of all written files
are hashed (`tests/normal_forms.py`).
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import io
import json
import os
import re
import runpy
import sys
import time
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

from tests.normal_forms import dump, normal_catalog, normal_forms

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


def say(text: str, passing: bool = False) -> None:
    """Print to stderr.

    Args:
        passing: the next text overwrites this one, so it is printed only on a terminal.
    """
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)
    elif not passing:
        print(text.strip(), file=sys.stderr, flush=True)

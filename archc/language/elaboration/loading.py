"""Loading of files: decode bytes to a source, and parse a source to a module with its imports."""

from __future__ import annotations

import codecs
import stat
from dataclasses import replace
from pathlib import Path

from archc.diagnostics import ArchcError, Diagnostics, Note, Source, Span, did_you_mean, error
from archc.language.elaboration.modules import Module, derive
from archc.language.syntax import tree
from archc.language.syntax.parser import parse

LARGEST_FILE = 64 * 2**20
"""Limit on the bytes of a file."""
DEEPEST_IMPORTS = 64
SUFFIX = ".arch"
"""Suffix of files that can be imported."""
Defined = tree.Definition | tree.Derivation | tree.PipelineStatement | tree.DevicesStatement
STANDARD_LIBRARY = Path(__file__).resolve().parents[1] / "std"


def load(path: str | Path, name: str | None = None, suffix: str = SUFFIX) -> Source:
    """Read a text from a file, without its byte order mark.

    Args:
        name: the name of the file in diagnostics; its path by default.
        suffix: the usual suffix of such files, for suggestions.

    Raises:
        ArchcError: `file-not-found`, `not-a-file`, `file-too-large`, `unreadable-file` or `invalid-utf8`.
    """
    path = Path(path)
    try:
        status = path.stat()
        # A pipe or a device may never end, so only regular files are read.
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise error("not-a-file", f"`{path}` is {what}", help=_content_of(path, suffix))
        if status.st_size > LARGEST_FILE:
            raise error(
                "file-too-large",
                f"`{path}` has {status.st_size:,} bytes; the limit is {LARGEST_FILE:,}",
                help=f"give a file that ends in `{suffix}`",
            )
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise error("file-not-found", f"there is no file `{path}`", help=_similar_to(path)) from None
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        raise error("unreadable-file", f"`{path}` cannot be read: {reason}") from None
    except ValueError:  # a NUL character in the path
        raise error("file-not-found", f"{str(path)!r} is not a valid path") from None
    return decode(content, name or str(path), path)


def decode(content: bytes, name: str, path: Path | None = None) -> Source:
    """Decode a text from UTF-8, without its byte order mark.

    Raises:
        ArchcError: `invalid-utf8`.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return Source(content.decode("utf-8"), name, path)
    except UnicodeDecodeError as failure:
        # The text before the invalid byte is valid; the rest is only shown in the diagnostic.
        source = Source(content.decode("utf-8", "replace"), name, path)
        start = len(content[: failure.start].decode("utf-8"))
        raise error(
            "invalid-utf8",
            f"the byte {content[failure.start]:#04x} at offset {failure.start} is not UTF-8",
            Span(source, start, start + 1),
            help="give a text file; this one is binary" if 0 in content else "save the file as UTF-8",
        ) from None


def _similar_to(path: Path) -> str | None:
    """Help that suggests the existing file with the name most similar to that of a missing file."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder `{folder}` either"
    try:
        help_ = did_you_mean(path.name, sorted(entry.name for entry in folder.iterdir()))
    except OSError:
        return None
    return help_


def _content_of(path: Path, suffix: str) -> str | None:
    """Help that suggests a file in a folder; None if the folder has no file with the suffix."""
    if not path.is_dir():
        return None
    try:
        texts = sorted(path.glob(f"*{suffix}"))
    except OSError:
        return None
    return f"give a file in it, such as `{texts[0]}`" if texts else None


# Modules -------------------------------------------------------------------------------------------------


def load_module(source: Source, diagnostics: Diagnostics, allow_absolute: bool = False) -> Module:
    """Parse a source, and load the files that it imports.

    Args:
        allow_absolute: allow absolute paths in `import`.
    """
    return _Loader(diagnostics, allow_absolute).module(source)


class _Loader:
    """Loader that reads each file once, and detects import cycles."""

    def __init__(self, diagnostics: Diagnostics, allow_absolute: bool):
        self.diagnostics = diagnostics
        self.allow_absolute = allow_absolute
        self.loaded: dict[Path, Module] = {}
        self.open: list[tuple[Path, Span | None]] = []

    def module(self, source: Source) -> Module:
        if source.path is not None:
            self.open.append((source.path.resolve(), None))
        return self._module(source)

    def _module(self, source: Source) -> Module:
        file = parse(source, self.diagnostics)
        module = Module(source)
        derivations: dict[str, tree.Derivation] = {}
        for item in file.items:
            if isinstance(item, tree.Import):
                self._import(module, item)
            elif not self._defined(module, derivations, item):
                self._define(module, derivations, item)
        derive(module, derivations, self.diagnostics)
        return module

    def _defined(self, module: Module, derivations: dict[str, tree.Derivation], item: Defined) -> bool:
        """Return whether another item of the file already has the name of `item`; report the duplicate if so."""
        name = item.name
        items = (module.definitions, module.pipelines, module.devices, derivations)
        earlier = next((others[name.name].name for others in items if name.name in others), None)
        if earlier is not None:
            self.diagnostics.error(
                "duplicate-name",
                f"`{name.name}` is defined twice",
                name.span,
                notes=[Note("it is defined here first", earlier.span)],
                help="give one of them another name",
            )
        return earlier is not None

    def _define(self, module: Module, derivations: dict[str, tree.Derivation], item: Defined) -> None:
        name = item.name.name
        if isinstance(item, tree.Definition):
            module.definitions[name] = item
        elif isinstance(item, tree.Derivation):
            derivations[name] = item
        elif isinstance(item, tree.PipelineStatement):
            module.pipelines[name] = item
        else:
            module.devices[name] = item

    def _import(self, module: Module, item: tree.Import) -> None:
        path = self._find(module.source, item)
        if path is None:
            return
        alias = item.alias.name if item.alias is not None else path.stem
        if alias in module.imports:
            self.diagnostics.error(
                "duplicate-name",
                f"two imports are called `{alias}`",
                item.span,
                help='give one another name: `import "..." as other`',
            )
            return
        if path in self.loaded:
            module.imports[alias] = self.loaded[path]
            return
        if any(path == opened for opened, _ in self.open):
            names = [opened.name for opened, _ in self.open]
            start = next(k for k, (opened, _) in enumerate(self.open) if opened == path)
            self.diagnostics.error(
                "import-cycle",
                f"{path.name} imports itself",
                item.path.span,
                notes=["the cycle is " + " -> ".join([*names[start:], path.name])],
                help="move the definitions that both use into a third file",
            )
            return
        if len(self.open) >= DEEPEST_IMPORTS:
            self.diagnostics.error(
                "nesting-too-deep", f"imports are nested more than {DEEPEST_IMPORTS} deep", item.path.span
            )
            return
        try:
            source = load(path, name=_shown_path(module.source, item.path.value, path))
        except ArchcError as problem:
            for found in problem.diagnostics:
                self.diagnostics.add(found if found.span is not None else replace(found, span=item.path.span))
            return
        self.open.append((path, item.span))
        self.loaded[path] = module.imports[alias] = self._module(source)
        self.open.pop()

    def _find(self, source: Source, item: tree.Import) -> Path | None:
        given = item.path.value
        if Path(given).is_absolute() and not self.allow_absolute:
            self.diagnostics.error(
                "import-absolute",
                "the path of an import is absolute",
                item.path.span,
                help="write a path relative to this file, or allow absolute paths with `--allow-absolute-imports`",
            )
            return None
        folder = source.path.parent if source.path is not None else Path()
        candidates = [folder / given]
        if given.startswith("std/"):
            candidates.append(STANDARD_LIBRARY / given.removeprefix("std/"))
        try:
            found = next((candidate for candidate in candidates if candidate.is_file()), None)
        except OSError as problem:  # a name that is too long, or a folder without permission
            reason = f"`{_short(given)}` cannot be found: {problem.strerror}"
            self.diagnostics.error("import-not-found", reason, item.path.span)
            return None
        if found is None:
            self._not_found(source, item, candidates[0])
            return None
        path = found.resolve()
        if path.suffix != SUFFIX:
            # Diagnostics quote lines of an imported file, and a file of another kind may contain secrets.
            self.diagnostics.error(
                "import-not-arch",
                f"`{_short(given)}` is not a `{SUFFIX}` file, and cannot be imported",
                item.path.span,
                help=f"if it is a text of archc, rename it to `{path.stem}{SUFFIX}`",
            )
            return None
        return path

    def _not_found(self, source: Source, item: tree.Import, path: Path) -> None:
        given = item.path.value
        if path.is_dir():
            message, names = (
                f"`{given}` is a folder, and cannot be imported",
                [f"{given}/{name}" for name in _texts(path)],
            )
        else:
            others = [name for name in _texts(path.parent) if source.path is None or name != source.path.name]
            message, names = f"there is no file `{given}` beside {source.name}", others
        way = did_you_mean(Path(given).name, names) or "write a path relative to this file"
        if not given.endswith(SUFFIX):
            way = f"add the suffix: `{_short(given)}{SUFFIX}`"
        self.diagnostics.error("import-not-found", message, item.path.span, help=way)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _texts(folder: Path) -> list[str]:
    """Names of the `.arch` files in a folder."""
    return sorted(other.name for other in folder.glob("*.arch") if other.is_file())


def _shown_path(importer: Source, given: str, path: Path) -> str:
    """Name of an imported file in diagnostics: `std/...`, or the importer's folder joined with `given`."""
    if path.parent == STANDARD_LIBRARY:
        return f"std/{path.name}"
    return str(Path(importer.name).parent / given) if not importer.name.startswith("<") else given

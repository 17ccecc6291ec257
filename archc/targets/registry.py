"""Registry of targets: those of archc, of installed packages, and of files given with `--load`.

    [project.entry-points."archc.targets"]
    torchscript = "my_package.torchscript:TORCHSCRIPT"

A package is imported when `--emit` names its target.
"""

from __future__ import annotations

from collections.abc import Iterable

from archc.codegen.target import Target
from archc.entry_points import EntryPoints
from archc.targets.arch import ARCH
from archc.targets.onnx import ONNX
from archc.targets.torch import TORCH

BUILT_IN = (TORCH, ONNX, ARCH)
"""The targets of archc, which are written by default, in the order of messages."""

REGISTERED = {target.name: target for target in BUILT_IN}
"""Targets of archc and targets registered in this process, by name."""

_FOUND = EntryPoints("target", REGISTERED)

RESERVED_SUFFIXES = {".safetensors": "the weights", ".json": "the report"}
"""Suffixes of files that are written with every target."""


def register_target(target: Target) -> Target:
    """Register a target in this process, and return it.

    If Python runs the definition of a target again, the new target replaces the earlier one.

    Raises:
        TypeError: the argument is no target.
        ValueError: another target has the name, the suffix, or the name of the runtime; or the suffix is reserved.
    """
    if not isinstance(target, Target):
        raise TypeError(f"`register_target` takes a target, `archc.Target(name=..., ...)`, not {target!r:.60}")
    known = REGISTERED.get(target.name)
    if known is not None and (known in BUILT_IN or _module(known) != _module(target)):
        raise ValueError(f"there is a target `{target.name}` already: give the new target another name")
    use = RESERVED_SUFFIXES.get(target.suffix.lower())
    if use is not None:
        raise ValueError(f"`{target.name}` cannot have the suffix `{target.suffix}`, which is that of {use}")
    for other in REGISTERED.values():
        if other.name == target.name:
            continue
        if other.suffix.lower() == target.suffix.lower():  # some file systems ignore case
            raise ValueError(f"`{target.name}` cannot have the suffix `{target.suffix}` of the target `{other.name}`")
        if target.runtime and other.runtime and other.runtime.name == target.runtime.name:
            taken = target.runtime.name
            raise ValueError(f"`{target.name}` cannot have a runtime named `{taken}`, as the target `{other.name}` has")
    REGISTERED[target.name] = target
    return target


def _module(target: Target) -> str | None:
    """Name of the module that defines a target: the module of its function."""
    return getattr(target.text or target.write, "__module__", None)


def target_names() -> list[str]:
    """Names of all targets: the registered ones, then those of packages that are not imported."""
    return _FOUND.names()


def find_target(name: str) -> Target | None:
    """Target of a name, without importing packages of other targets; None if there is no such target.

    Raises:
        ArchcError: the package of the target cannot be imported, or it does not register the target
            (`target-not-loadable`).
    """
    return _FOUND.find(name)


def default_targets(with_weights: bool) -> list[Target]:
    """The targets that are written by default, for a model with or without weights."""
    return [target for target in BUILT_IN if with_weights or not target.needs_weights]


def runnable_targets(suffixes: Iterable[str]) -> list[Target]:
    """The targets that have a runtime and one of these suffixes."""
    wanted = set(suffixes)
    return [target for target in REGISTERED.values() if target.runtime is not None and target.suffix in wanted]


def names_of(targets: Iterable[Target]) -> str:
    """Names of targets, as a value for `--emit`."""
    return ",".join(target.name for target in targets)

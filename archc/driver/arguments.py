"""Arguments of the public Python functions: type checks, and former names."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

from archc.codegen.python_source import Activations
from archc.codegen.target import DEFAULT_FORM, Form, OnnxOperators, Target
from archc.declaration.base import Operator
from archc.diagnostics import Diagnostics, Source
from archc.driver.pipelines import parse_passes
from archc.ir.graph import Graph
from archc.language.elaboration.modules import Module
from archc.passmanager import Pass
from archc.passmanager.order import check_order
from archc.targets.registry import REGISTERED, default_targets, find_target, target_names
from archc.types.tensor_type import DType

P = ParamSpec("P")
R = TypeVar("R")

REPORTS = ("json", "html")
"""Forms of the report: `report.json` alone, or with `report.html`."""

_FILE = (str, os.PathLike, type(None))
_VALUES = (bool, int, float, str, tuple, list, DType)
_NAMES = ("open", "emit", "formats")  # arguments that are lists of names
_NOT_NEGATIVE = ("seed", "depth")


def _known_formats() -> str:
    """Phrase for the argument `formats`."""
    from archc.compression.quantization.weight_formats import Format  # imports numpy

    return 'a text such as "int8,int4", or a list of ' + ", ".join(f'"{name}"' for name in get_args(Format))


def _known_targets() -> str:
    """Phrase for the argument `emit`; plugins add targets, so the phrase is made when it is needed."""
    return "a list of " + ", ".join(f'"{name}"' for name in target_names())


_TAKES: dict[str, tuple[tuple[Any, ...], str | Callable[[], str]]] = {
    "text": ((str, Path, Source), "the text itself, or a Path to it"),
    "model": ((str, type(None)), "the name of a model"),
    "passes": ((str, Pass, Sequence), 'a text such as "lowrank, quant", or a list of such texts and of passes'),
    "weights": ((*_FILE, Mapping), 'a path, "none", or a mapping from names to arrays or tensors'),
    "rename": (_FILE, "a path to a file of rules"),
    "calib": ((*_FILE, Mapping), "a path to an .npz file, or a mapping from inputs' names to arrays or tensors"),
    "set": ((Mapping, type(None)), "a mapping from attributes' names to values, such as {'classes': 100}"),
    "seed": ((int,), "an integer"),
    "allow_pickle": ((bool,), "True or False"),
    "allow_absolute_imports": ((bool,), "True or False"),
    "graph": ((Graph,), "a graph, as `archc.parse(...)` and `archc.compile(...).graph` give it"),
    "depth": ((int,), "an integer"),
    "open": ((Sequence,), "a list of names of blocks"),
    "folder": ((str, os.PathLike), "a path"),
    "emit": ((str, Sequence, type(None)), _known_targets),
    "formats": ((str, Sequence, type(None)), _known_formats),
    "group": ((int, type(None)), "an integer or None"),
    "sort": ((str, type(None)), 'the name of a format, or "file"'),
    "check": ((bool, type(None)), "True, False or None"),
    "single_file": ((bool, type(None)), "True, False or None"),
    "measure": ((bool,), "True or False"),
    "baseline": ((bool,), "True or False"),
    "progress": ((Callable,), "a function whose argument is the name of a task"),
    "announce": ((Callable, type(None)), "a function whose argument is the report"),
    "diagnostics": ((Diagnostics, type(None)), "an archc.Diagnostics, which collects the warnings"),
}


def check_types(**arguments: Any) -> None:
    """Refuse arguments of a wrong type.

    Raises:
        TypeError: an argument has a wrong type; the message has its name and the accepted types.
        ValueError: `seed` or `depth` is negative.
    """
    for name, value in arguments.items():
        types = _TAKES[name][0]
        item: Any = value
        is_wrong_bool = isinstance(value, bool) and bool not in types
        if not isinstance(value, types) or is_wrong_bool or (name == "open" and isinstance(value, str)):
            raise TypeError(f"`{name}` takes {_accepted(name)}, not {_shown(value)}")
        if name in _NOT_NEGATIVE and item < 0:
            raise ValueError(f"`{name}` takes an integer that is not negative, not {value}")
        for part in item or () if name in _NAMES and not isinstance(value, str) else ():
            if not isinstance(part, str):
                raise TypeError(f"`{name}` takes {_accepted(name)}, and one item is {_shown(part)}")
        for key, setting in (item or {}).items() if name == "set" else ():
            if not isinstance(key, str):
                raise TypeError(f"`set` takes {_accepted(name)}, not the name {key!r}")
            is_operator = isinstance(setting, type) and issubclass(setting, Operator)
            if not isinstance(_plain(setting), _VALUES) and not is_operator:
                takes = "numbers, texts, truth values, dtypes, operators and lists"
                raise TypeError(f"`set` takes {takes}, and {key!r} is {_shown(setting)}")


def form_of(
    activations: Activations | None = None,
    onnx: OnnxOperators | None = None,
    single_file: bool | None = None,
    otherwise: Form = DEFAULT_FORM,
) -> Form:
    """The form of the programs; where None is given, that of another form.

    Raises:
        TypeError: `single_file` is no truth value.
        ValueError: there is no such form of activations, or no such choice of operators of ONNX models.
    """
    check_types(single_file=single_file)
    for title, value, choices in (
        ("`activations`", activations, get_args(Activations)),
        ("`onnx`", onnx, get_args(OnnxOperators)),
    ):
        if value is not None and not (isinstance(value, str) and value in choices):
            raise ValueError(f"{title} takes {' or '.join(map(repr, choices))}, not {value!r}")
    return Form(
        otherwise.activations if activations is None else activations,
        otherwise.onnx if onnx is None else onnx,
        otherwise.single_file if single_file is None else single_file,
    )


def check_report_form(given: str) -> None:
    """Refuse an unknown form of the report.

    Raises:
        ValueError: there is no such form.
    """
    if given not in REPORTS:
        raise ValueError(f"`report` takes {' or '.join(map(repr, REPORTS))}, not {given!r}")


def _accepted(name: str) -> str:
    """Phrase for the accepted values of an argument."""
    what = _TAKES[name][1]
    return what if isinstance(what, str) else what()


def plain_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values of attributes by name, with Python numbers for numpy scalars."""
    return {name: _plain(value) for name, value in (given or {}).items()}


def _plain(value: Any) -> Any:
    """Convert numpy scalars, also those in lists, to Python numbers, without an import of numpy."""
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return value.item()
    return [*map(_plain, value)] if isinstance(value, list) else value


def names_of(given: str | Sequence[str]) -> list[str]:
    """Names that are given as a list or as a text such as "int8,int4"."""
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)


def targets_of(emit: str | Sequence[str] | None, with_weights: bool) -> list[Target]:
    """Targets to write, in the order of the registry.

    Args:
        emit: names of targets; None for the default targets.
        with_weights: whether the model has weights.

    Raises:
        TypeError: `emit` is neither a string nor a list of strings.
        ValueError: a target does not exist, or no target is given.
        ArchcError: the package of a target cannot be imported (`target-not-loadable`).
    """
    check_types(emit=emit)
    if emit is None:
        return default_targets(with_weights)
    names = names_of(emit)
    wrong = next((name for name in names if find_target(name) is None), None)
    if wrong is not None or not names:
        raise ValueError(f"`emit` takes {_known_targets()}, not " + (repr(wrong) if names else "an empty one"))
    return [target for target in REGISTERED.values() if target.name in names]


def passes_of(given: str | Pass | Sequence[str | Pass], module: Module) -> list[Pass]:
    """The passes of a pipeline that is given as text, as a pass, or as a list of both.

    Raises:
        TypeError: an item is neither a text nor a pass.
        ArchcError: a text is not a valid pipeline; see `parse_passes`.
    """
    if isinstance(given, str):
        return parse_passes(given, module)
    passes: list[Pass] = []
    for item in [given] if isinstance(given, Pass) else given:
        if isinstance(item, str):
            passes += parse_passes(item, module)
        elif isinstance(item, Pass):
            passes.append(item)
        else:
            raise TypeError(f"`passes` takes {_accepted('passes')}, and one item is {_shown(item)}")
    check_order(passes)
    return passes


def with_former_names(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for functions with renamed keyword arguments.

    `with_former_names(old="new")` accepts the argument `old` in place of `new`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for former in names.keys() & kwargs.keys():
                if names[former] in kwargs:
                    raise TypeError(f"`{former}` is the former name of `{names[former]}`: give one of them")
                kwargs[names[former]] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value) if isinstance(value, int | float | str | bytes) else ""
    return f"{type(value).__name__} {text}" if 0 < len(text) <= 40 else type(value).__name__

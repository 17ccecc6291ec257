"""Values of symbolic sizes at which costs are counted: given, taken from calibration data, or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from archc.diagnostics import Diagnostics, error
from archc.frozen_dataclass import frozen_dataclass
from archc.interpreter.evaluate import bind_sizes
from archc.interpreter.sample_inputs import sample_sizes
from archc.ir.given_sizes import check_sizes, empty_text, first_empty, settings_text, size_names, sizes_option
from archc.ir.graph import Graph
from archc.types.dims import as_symbol


@frozen_dataclass
class Sizes:
    """A value for every symbolic size of a graph's inputs.

    Attributes:
        values: the sizes by name.
        assumed: the sizes that were neither given nor in calibration data; a batch of one sample is not among them.
    """

    values: Mapping[str, int] = field(default_factory=dict)
    assumed: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return settings_text(self.values)


def choose_sizes(
    graph: Graph,
    given: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    option: str = "--sizes",
) -> Sizes:
    """The sizes at which a graph's costs are counted.

    A size is taken from `given`, else from calibration data.  Otherwise it is assumed: the first of a few candidates
    (16, 32, …) for which no tensor is empty.  The batch, the first axis of an input, is one sample unless it is given.

    Args:
        given: sizes given by the user.
        shapes: the shapes of the calibration data by input name; None without data.
        option: name of the option that gives sizes, for the help.

    Raises:
        ArchcError: a given size does not occur in the model (`unknown-size`), is above its bound
            (`size-above-bound`), differs from the size in the calibration data (`size-conflict`), or makes a tensor
            empty (`size-too-small`).
    """
    check_sizes(graph, given, option)
    batch = {s.name for value in graph.inputs if value.type.shape and (s := as_symbol(value.type.shape[0]))}
    data = {} if shapes is None else bind_sizes(graph, shapes)
    data = {name: size for name, size in data.items() if name not in batch}
    for name, size in given.items():
        if data.get(name, size) != size:
            raise error(
                "size-conflict",
                f"`{name}` is {data[name]} in the calibration data, but {size} was given",
                help=f"remove `{name}` from `{option}`, or give calibration data of that size",
            )
    known = {**data, **given}
    values = {name: size for name, size in sample_sizes(graph, 1, known).items() if name in size_names(graph)}
    empty = first_empty(graph, values)
    if empty is not None and given:
        raise error("size-too-small", empty_text(empty, values), empty.span, help=larger_sizes(graph, values, option))
    return Sizes(values, {name: size for name, size in values.items() if name not in known and name not in batch})


def check_data(graph: Graph, sizes: Sizes) -> None:
    """Refuse calibration data whose sizes make a tensor empty.

    The compiler calls this function after the passes.  A pass that runs the model on the data may fail earlier, for
    example because a kernel is larger than an image.  The only diagnostic is then `calibration-failed`.

    Raises:
        ArchcError: a tensor is empty (`size-too-small`).
    """
    empty = first_empty(graph, sizes.values)
    if empty is not None:
        help = larger_sizes(graph, sizes.values, None)
        raise error(
            "size-too-small", f"{empty_text(empty, sizes.values)}, by the calibration data", empty.span, help=help
        )


def larger_sizes(graph: Graph, small: Mapping[str, int], option: str | None = "--sizes") -> str:
    """Help text for sizes that make a tensor empty: it suggests larger sizes within their bounds.

    Args:
        small: the sizes that make a tensor empty.
        option: name of the option that gives sizes; None for sizes of calibration data.
    """
    sizes = {name: max(size, small[name]) for name, size in sample_sizes(graph, 1).items() if name in small}
    if first_empty(graph, sizes) is not None:
        return f"a tensor is empty at all sizes that were tried, such as {settings_text(sizes)}: change the model"
    if option is None:
        return f"give calibration data of larger sizes, such as {settings_text(sizes)}"
    return f"give larger sizes: `{sizes_option(sizes, option)}`"


def warn_of_assumed(sizes: Sizes, diagnostics: Diagnostics) -> None:
    """Warn that a command assumed sizes to compute its figures or to run its passes."""
    if not sizes.assumed:
        return
    names = " and ".join(f"`{name}` = {size}" for name, size in sizes.assumed.items())
    diagnostics.warn(
        "assumed-size",
        f"costs are counted at {names}, which {'is' if len(sizes.assumed) == 1 else 'are'} assumed",
        help=f"give the sizes that the model will run at: `{sizes_option(sizes.assumed)}`",
    )

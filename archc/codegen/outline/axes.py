"""What a block's text calls the axes of its inputs (`x: f32[N, C, H, W]`), where that holds for all its uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.outline.alignment import Group, Shape
from archc.types.extent_solver import Extent

Axes = tuple[str | int, ...]
"""For each axis the name of its size, or the number that the size always is."""


@dataclass(frozen=True)
class Naming:
    """The names of the sizes of a definition's inputs.

    Attributes:
        inputs: the axes of each input; None for one whose type the text does not tell.
        sizes: for each name the size that it stands for in each instance.
    """

    inputs: tuple[Axes | None, ...]
    sizes: Mapping[str, tuple[Extent, ...]] = field(default_factory=dict)


def name_axes(group: Group) -> Naming:
    """The names that a group's inputs have; none at all where some use contradicts them, as after a pass it may."""
    count = len(group.units[0].inputs)
    axes = tuple(
        _axes([_written(unit, number) for unit in group.units], group.units, number) for number in range(count)
    )
    nameless = Naming((None,) * count)
    bound: dict[str, dict[str, Extent]] = {}  # by path: a layer that is used twice has one set of attributes
    for unit in group.units:
        sizes = bound.setdefault(unit.scope.path, {})
        for value, names in zip(unit.inputs, axes):
            for name, size in zip(names or (), value.type.shape):
                if isinstance(name, str) and sizes.setdefault(name, size) != size:
                    return nameless
    instances = [bound[path] for path in group.instances]
    return Naming(axes, {name: tuple(sizes[name] for sizes in instances) for name in instances[0]})


def _written(unit: Shape, number: int) -> tuple[str | None, ...] | None:
    """What the text of a use calls the axes of one of its inputs."""
    position, axes = unit.positions[number], unit.scope.axes
    names = axes[position] if position is not None and position < len(axes) else None
    return names if names is not None and len(names) == unit.inputs[number].type.rank else None


def _axes(written: Sequence[tuple[str | None, ...] | None], units: Sequence[Shape], number: int) -> Axes | None:
    """The axes of one input, given what each use calls them; None where the uses do not agree."""
    names = written[0]
    types = [unit.inputs[number].type for unit in units]
    if names is None or any(other != names for other in written) or len({type_.dtype for type_ in types}) > 1:
        return None
    found: list[str | int] = []
    for axis, name in enumerate(names):
        size = types[0].shape[axis]
        if name is not None:
            found.append(name)
        elif isinstance(size, int) and all(type_.shape[axis] == size for type_ in types):
            found.append(size)
        else:
            return None
    return tuple(found)

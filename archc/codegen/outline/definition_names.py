"""Names for definitions: the block's own for the most frequent form, and for the others what sets them apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.outline.alignment import UseGroup, UseStructure
from archc.types.extent_solver import Extent


def name_groups(groups: list[UseGroup]) -> dict[UseGroup, str]:
    """A name for each group, unique and an identifier; the last group is the model."""
    names: dict[UseGroup, str] = {groups[-1]: _identifier(groups[-1].units[0].scope.definition)}
    taken = set(names.values())
    blocks: dict[str, list[UseGroup]] = defaultdict(list)
    for group in groups[:-1]:
        blocks[_identifier(group.units[0].scope.definition)].append(group)
    # First those that keep a block's name, so that no lengthened name takes it from them.
    for name, forms in blocks.items():
        main = max(forms, key=lambda group: len(group.instances))  # the first one among equals
        forms.remove(main)
        forms.insert(0, main)
        names[main] = _unique(name, taken)
    for name, (main, *others) in blocks.items():
        for group in others:
            names[group] = _unique(_lengthened(name, group, main), taken)
    return names


def _lengthened(name: str, group: UseGroup, main: UseGroup) -> str:
    """`BasicBlockWithDownsample`, where having a `downsample` sets it apart from the main form."""
    own, usual = _members(group.units[0]), _members(main.units[0])
    for word, extra in (("with", [m for m in own if m not in usual]), ("without", [m for m in usual if m not in own])):
        if extra:
            parts = [word, *re.findall(r"[A-Za-z]+[0-9]*", extra[0])]
            if name[:1].isupper():
                return name + "".join(part[:1].upper() + part[1:] for part in parts)
            return "_".join([name, *parts])
    return name


def _members(shape: UseStructure) -> list[str]:
    """The members by the first part of their names: a list that is longer elsewhere sets nothing apart."""
    paths = (item.scope.path if isinstance(item, UseStructure) else item.path for item in shape.items)
    return [shape.relative(path).partition(".")[0] for path in paths if path is not None]


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdigit() else name


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{number}", number + 1
    taken.add(found)
    return found


Axes = tuple[str | int, ...]
"""For each axis the name of its size, or the number that the size always is."""


@dataclass(frozen=True)
class AxisNames:
    """The names of the sizes of a definition's inputs.

    Attributes:
        inputs: the axes of each input; None for one whose type the text does not tell.
        sizes: for each name the size that it stands for in each instance.
    """

    inputs: tuple[Axes | None, ...]
    sizes: Mapping[str, tuple[Extent, ...]] = field(default_factory=dict)


def name_axes(group: UseGroup) -> AxisNames:
    """The names that a group's inputs have; none at all where some use contradicts them, as after a pass it may."""
    count = len(group.units[0].inputs)
    axes = tuple(
        _axes([_written(unit, number) for unit in group.units], group.units, number) for number in range(count)
    )
    nameless = AxisNames((None,) * count)
    bound: dict[str, dict[str, Extent]] = {}  # by path: a layer that is used twice has one set of attributes
    for unit in group.units:
        sizes = bound.setdefault(unit.scope.path, {})
        for value, names in zip(unit.inputs, axes):
            for name, size in zip(names or (), value.type.shape):
                if isinstance(name, str) and sizes.setdefault(name, size) != size:
                    return nameless
    instances = [bound[path] for path in group.instances]
    return AxisNames(axes, {name: tuple(sizes[name] for sizes in instances) for name in instances[0]})


def _written(unit: UseStructure, number: int) -> tuple[str | None, ...] | None:
    """What the text of a use calls the axes of one of its inputs."""
    position, axes = unit.positions[number], unit.scope.axes
    names = axes[position] if position is not None and position < len(axes) else None
    return names if names is not None and len(names) == unit.inputs[number].type.rank else None


def _axes(written: Sequence[tuple[str | None, ...] | None], units: Sequence[UseStructure], number: int) -> Axes | None:
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

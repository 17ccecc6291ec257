"""Names of definitions, and of the axes of their inputs.

A block of the text becomes several definitions if its uses differ in structure.  The most frequent structure has the
name of the block.  The names of the other structures have a suffix for the difference.

Axes have the names of the text (`x: f32[N, C, H, W]`), if these names fit all uses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field

from archc.codegen.outline.alignment import UseGroup, UseStructure
from archc.frozen_dataclass import frozen_dataclass
from archc.types.extent_solver import Extent


def name_groups(groups: list[UseGroup]) -> dict[UseGroup, str]:
    """A unique identifier for each group; the last group is the model."""
    names: dict[UseGroup, str] = {groups[-1]: _identifier(groups[-1].uses[0].scope.definition)}
    taken = set(names.values())
    families = _families(groups)
    blocks: dict[str, list[list[UseGroup]]] = defaultdict(list)
    for family in families:
        blocks[_identifier(family[0].uses[0].scope.definition)].append(family)
    # Assign the names without a suffix first, so that no name with a suffix takes one of them.
    for name, forms in blocks.items():
        main = max(forms, key=_instance_count)  # the first of several with equally many instances
        forms.remove(main)
        forms.insert(0, main)
        names[_main(main)] = _unique(name, taken)
    for name, (usual, *others) in blocks.items():
        for family in others:
            names[_main(family)] = _unique(_lengthened(name, family[0], usual[0]), taken)
    for family in families:
        for group in family:
            if group not in names:
                names[group] = _unique(names[_main(family)], taken)
    return names


def _families(groups: list[UseGroup]) -> list[list[UseGroup]]:
    """The groups except the model; groups of one family differ only in attributes.

    A target may write a constant as an argument, where another target needs a second definition.  The names of families
    do not depend on this, so the files of one compilation have the same names.
    """
    families: dict[Hashable, list[UseGroup]] = {}
    numbers: dict[UseGroup, int] = {}
    for group in groups[:-1]:
        use = group.uses[0]
        rows = (
            (name, numbers[item.group] if isinstance(item, UseStructure) else type(item.op))
            for item, (name, _) in zip(use.items, use.rows, strict=True)
        )
        family = families.setdefault((use.scope.definition, tuple(rows)), [])
        family.append(group)
        numbers[group] = list(families.values()).index(family)
    return list(families.values())


def _instance_count(family: list[UseGroup]) -> int:
    return sum(len(group.instances) for group in family)


def _main(family: list[UseGroup]) -> UseGroup:
    """The group of a family with the most instances; the first of several."""
    return max(family, key=lambda group: len(group.instances))


def _lengthened(name: str, group: UseGroup, main: UseGroup) -> str:
    """The name with a suffix: `BasicBlockWithDownsample` if only this group has a `downsample`."""
    own, usual = _members(group.uses[0]), _members(main.uses[0])
    for word, extra in (("with", [m for m in own if m not in usual]), ("without", [m for m in usual if m not in own])):
        if extra:
            parts = [word, *re.findall(r"[A-Za-z]+[0-9]*", extra[0])]
            if name[:1].isupper():
                return name + "".join(part[:1].upper() + part[1:] for part in parts)
            return "_".join([name, *parts])
    return name


def _members(structure: UseStructure) -> list[str]:
    """First parts of the members' names: `h` for `h.0`, so that the length of a list makes no difference."""
    paths = (item.scope.path if isinstance(item, UseStructure) else item.path for item in structure.items)
    return [structure.relative(path).partition(".")[0] for path in paths if path is not None]


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
"""For each axis the name of its size; the size itself if the axis has no name in the text."""


@frozen_dataclass
class AxisNames:
    """The names of the sizes of a definition's inputs.

    Attributes:
        inputs: the axes of each input; None for an input without axis names.
        sizes: for each name the size in each instance.
    """

    inputs: tuple[Axes | None, ...]
    sizes: Mapping[str, tuple[Extent, ...]] = field(default_factory=dict)


def name_axes(group: UseGroup) -> AxisNames:
    """The axis names of a group's inputs; no names if one name has two sizes, which passes can cause."""
    count = len(group.uses[0].inputs)
    axes = tuple(_axes([_written(use, number) for use in group.uses], group.uses, number) for number in range(count))
    nameless = AxisNames((None,) * count)
    bound: dict[str, dict[str, Extent]] = {}  # by path: all uses of a layer must have the same sizes
    for use in group.uses:
        sizes = bound.setdefault(use.scope.path, {})
        for value, names in zip(use.inputs, axes):
            for name, size in zip(names or (), value.type.shape):
                if isinstance(name, str) and sizes.setdefault(name, size) != size:
                    return nameless
    instances = [bound[path] for path in group.instances]
    return AxisNames(axes, {name: tuple(sizes[name] for sizes in instances) for name in instances[0]})


def _written(use: UseStructure, number: int) -> tuple[str | None, ...] | None:
    """The names of an input's axes in the text of the block; None if the text does not declare them."""
    position, axes = use.positions[number], use.scope.axes
    names = axes[position] if position is not None and position < len(axes) else None
    return names if names is not None and len(names) == use.inputs[number].type.rank else None


def _axes(written: Sequence[tuple[str | None, ...] | None], uses: Sequence[UseStructure], number: int) -> Axes | None:
    """The axes of one input, from the names of each use; None if the uses disagree."""
    names = written[0]
    types = [use.inputs[number].type for use in uses]
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

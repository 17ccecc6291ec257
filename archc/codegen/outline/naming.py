"""Names for definitions: the block's own for the most frequent form, and for the others what sets them apart."""

from __future__ import annotations

import re
from collections import defaultdict

from archc.codegen.outline.alignment import Group, Shape


def name_groups(groups: list[Group]) -> dict[Group, str]:
    """A name for each group, unique and an identifier; the last group is the model."""
    names: dict[Group, str] = {groups[-1]: _identifier(groups[-1].units[0].scope.definition)}
    taken = set(names.values())
    blocks: dict[str, list[Group]] = defaultdict(list)
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


def _lengthened(name: str, group: Group, main: Group) -> str:
    """`BasicBlockWithDownsample`, where having a `downsample` sets it apart from the main form."""
    own, usual = _members(group.units[0]), _members(main.units[0])
    for word, extra in (("with", [m for m in own if m not in usual]), ("without", [m for m in usual if m not in own])):
        if extra:
            parts = [word, *re.findall(r"[A-Za-z]+[0-9]*", extra[0])]
            if name[:1].isupper():
                return name + "".join(part[:1].upper() + part[1:] for part in parts)
            return "_".join([name, *parts])
    return name


def _members(shape: Shape) -> list[str]:
    """The members by the first part of their names: a list that is longer elsewhere sets nothing apart."""
    paths = (item.scope.path if isinstance(item, Shape) else item.path for item in shape.items)
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

"""The modules that a class owns, as a tree of their paths, and the lines of `__init__` that make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import dropwhile, groupby
from typing import TYPE_CHECKING

from archc.codegen.torch.constructions import INDEX
from archc.codegen.torch.formatting import has_name, lines_of
from archc.codegen.torch.names import CONTAINER_MEMBERS, is_attribute
from archc.operator.spelling import literal

if TYPE_CHECKING:
    from archc.codegen.torch.plans import ClassPlan

_LONG_RUN = 4  # so many equal elements of a list, and they are written as a comprehension


@dataclass(eq=False)
class Member:
    """A module at a path: a layer, a block, or the container of those whose paths go through it.

    Attributes:
        text: the constructor; None for a container.  Empty until it is known.
        plan: the emitted class that the constructor calls, if it is one.
        chained: its children are called one after the other, in order, and in no other way.
        length: for a list that has more elements in some instances than in others, how many it has; they are as many
            as in the longest here, the last ones all alike.
    """

    text: str | None = None
    plan: ClassPlan | None = None
    children: dict[str, Member] = field(default_factory=dict)
    chained: bool = False
    length: str = ""

    def at(self, path: str) -> Member:
        """The member at a path below this one; made where it is missing."""
        member = self
        for segment in path.split("."):
            member = member.children.setdefault(segment, Member())
        return member

    @cached_property
    def kind(self) -> str:
        """`list`, `dict`, or `module`, whose children are attributes; `sequence`, whose children are in line.

        To be asked for when all children are there.
        """
        if self.text is not None:
            return "module"
        if self.children.keys() == {str(number) for number in range(len(self.children))}:
            in_order = list(self.children) == sorted(self.children, key=int)
            return "sequence" if self.chained and in_order else "list"
        if CONTAINER_MEMBERS & self.children.keys():
            return "module"
        return "sequence" if self.chained and all(map(is_attribute, self.children)) else "dict"

    @property
    def has_names(self) -> bool:
        """Return whether it has named members beside its numbered elements: `enc.norm` beside `enc[0]`."""
        return self.kind in ("dict", "module")

    def elements(self, access: str, first: int, end: int) -> str:
        """Iterable over its numbered elements from `first` to before `end`, given the expression of this member."""
        if not self.has_names:
            return f"{access}[{first}:]" if first else access
        numbers = f"{first}, {end}" if first else f"{end}"
        element = f"{access}[str(k)]" if self.kind == "dict" else f"{access}.get_submodule(str(k))"
        return f"({element} for k in range({numbers}))"

    def expression(self) -> str:
        """The text that makes this member, all but what `grafts` adds."""
        if self.text is not None:
            return self.text
        elements = {name: child.expression() for name, child in self.children.items()}
        if self.length:
            return _list_of_length([elements[str(number)] for number in range(len(elements))], self.length)
        if self.kind == "list":
            return _module_list([elements[str(number)] for number in range(len(elements))])
        if self.kind == "sequence":
            if "0" in elements:
                return f"nn.Sequential({', '.join(elements.values())})"
            named = ", ".join(f"{name}={text}" for name, text in elements.items())
            return f"nn.Sequential(OrderedDict({named}))"
        if self.kind == "dict":
            return f"nn.ModuleDict({{{', '.join(f'{literal(name)}: {text}' for name, text in elements.items())}}})"
        return "nn.Module()"

    def grafts(self, access: str) -> Iterator[tuple[str, str, Member]]:
        """What can only be set once this member stands: the expression of the owner, the name, the member."""
        for name, child in self.children.items():
            if self.kind == "module":
                yield access, name, child
            yield from child.grafts(self.step(access, name))

    def step(self, access: str, name: str) -> str:
        """The expression of a child, given that of this member."""
        if self.kind == "list" or (name.isdigit() and self.kind == "sequence"):
            return f"{access}[{name}]"
        if self.kind == "dict":
            return f"{access}[{literal(name)}]"
        return f"{access}.{name}" if is_attribute(name) else f"{access}.get_submodule({literal(name)})"


def access(root: Member, path: str, base: str = "self") -> str:
    """The expression of the member at a path, through emitted classes as far as it goes; `base` is the root's."""
    member, expression = root, base
    for segment in path.split(".") if path else ():
        expression = member.step(expression, segment)
        member = member.children.get(segment) or Member("")
        if member.plan is not None:
            member = Member("", None, {**member.plan.members.children, **member.children})
    return expression


def init_lines(root: Member) -> list[str]:
    """The assignments of `__init__`, indented by two levels, for all children of a class."""
    lines: list[str] = []
    for name, child in root.children.items():
        lines += _assignment("self", name, child.expression())
        for owner, grafted, member in child.grafts(access(root, name)):
            lines += _assignment(owner, grafted, member.expression())
    return lines


def _assignment(owner: str, name: str, expression: str) -> list[str]:
    if is_attribute(name):
        return lines_of(f"{owner}.{name} = ", expression, 2)
    return lines_of("", f"{owner}.add_module({literal(name)}, {expression})", 2)


def _list_of_length(elements: Sequence[str], length: str) -> str:
    """The list whose last elements, all alike, are so many that it has a length which is an argument."""
    last = elements[-1]
    alone = list(dropwhile(lambda text: text == last, reversed(elements)))[::-1]
    if has_name(last, INDEX):
        numbers = f"{INDEX} in range({f'{len(alone)}, ' if alone else ''}{length})"
    else:
        numbers = f"_ in range({length}{f' - {len(alone)}' if alone else ''})"
    if not alone:
        return f"nn.ModuleList({last} for {numbers})"
    return f"nn.ModuleList([{', '.join(alone)}, *({last} for {numbers})])"


def _module_list(elements: Sequence[str]) -> str:
    runs = [(text, len(list(group))) for text, group in groupby(elements)]
    if len(runs) == 1 and len(elements) > 1:
        return f"nn.ModuleList({runs[0][0]} for _ in range({len(elements)}))"
    texts: list[str] = []
    for text, count in runs:
        texts += [f"*({text} for _ in range({count}))"] if count >= _LONG_RUN else [text] * count
    return f"nn.ModuleList([{', '.join(texts)}])"

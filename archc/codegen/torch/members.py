"""Modules of a class: the tree of their paths, constructors, and chains for `nn.Sequential`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import dropwhile, groupby

from archc.codegen.outline.definitions import BlockStep, Loop, OperatorStep, Recurrence, Statement
from archc.codegen.torch.constructors import INDEX
from archc.codegen.torch.formatting import has_name, lines_of
from archc.codegen.torch.names import CONTAINER_MEMBERS, is_attribute
from archc.declaration.spelling import literal

_LONG_RUN = 4  # minimum number of equal consecutive elements for a comprehension


@dataclass(eq=False)
class ModuleMember:
    """A module at a path: a layer, a block, or a container of modules at longer paths.

    Attributes:
        text: the constructor call, empty until it is known; None for a container.
        inside: if `text` constructs an emitted class, such as `Block(64)`, the modules of this class; else None.
        children: the modules below it, by the next segment of their paths.
        chained: True if `forward` only calls the children one after the other, in order.
        length: empty, unless the member is a list whose length differs between instances of the emitted class.  For
            such a list, `length` is the expression of the length, and `children` has the elements of the longest list.
            The elements that shorter lists lack have the same constructor call as the last element.
    """

    text: str | None = None
    inside: ModuleMember | None = None
    children: dict[str, ModuleMember] = field(default_factory=dict)
    chained: bool = False
    length: str = ""

    def at(self, path: str) -> ModuleMember:
        """The member at a path below this one, added if it is missing."""
        member = self
        for segment in path.split("."):
            member = member.children.setdefault(segment, ModuleMember())
        return member

    @cached_property
    def kind(self) -> str:
        """The kind of container: `list`, `dict`, `sequence` (`nn.Sequential`), `module` (attributes).

        It is cached: all children must be present at the first call.
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
        """Return whether it has named members besides numbered elements, such as `enc.norm` besides `enc[0]`."""
        return self.kind in ("dict", "module")

    def elements(self, access: str, first: int, end: int) -> str:
        """The iterable over its numbered elements `first` to `end - 1`.

        Args:
            access: the expression of this member.
        """
        if not self.has_names:
            return f"{access}[{first}:]" if first else access
        numbers = f"{first}, {end}" if first else f"{end}"
        element = f"{access}[str(k)]" if self.kind == "dict" else f"{access}.get_submodule(str(k))"
        return f"({element} for k in range({numbers}))"

    def expression(self) -> str:
        """The constructor expression of this member, without the members that `grafts` yields."""
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

    def grafts(self, access: str) -> Iterator[tuple[str, str, ModuleMember]]:
        """Yield (expression of the owner, name, member) for each member to assign after construction."""
        for name, child in self.children.items():
            if self.kind == "module":
                yield access, name, child
            yield from child.grafts(self.step(access, name))

    def step(self, access: str, name: str) -> str:
        """The expression of a child; `access` is the expression of this member."""
        if self.kind == "list" or (name.isdigit() and self.kind == "sequence"):
            return f"{access}[{name}]"
        if self.kind == "dict":
            return f"{access}[{literal(name)}]"
        return f"{access}.{name}" if is_attribute(name) else f"{access}.get_submodule({literal(name)})"


def access(root: ModuleMember, path: str, base: str = "self") -> str:
    """The expression of the member at a path; `base` is the expression of the root."""
    member, expression = root, base
    for segment in path.split(".") if path else ():
        expression = member.step(expression, segment)
        member = member.children.get(segment) or ModuleMember("")
        if member.inside is not None:
            member = ModuleMember("", None, {**member.inside.children, **member.children})
    return expression


def init_lines(root: ModuleMember) -> list[str]:
    """The lines of `__init__` that construct all modules of a class, indented by two levels."""
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
    """An `nn.ModuleList` of a given length; the last element is repeated to fill the list."""
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


Chain = list[OperatorStep | BlockStep]


def find_chains(
    body: Sequence[Statement], modules: Iterable[str], callable_alone: Callable[[OperatorStep | BlockStep], bool]
) -> dict[Statement, Chain]:
    """The chains of a definition: statements that call all modules of one container, one after the other.

    A chain is keyed by its first statement, or by the loop whose iterations it consists of.

    Args:
        modules: the paths of all modules of the definition.
        callable_alone: returns whether a statement only calls its module with its operand.
    """
    inside: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        parts = path.split(".")
        for length in range(1, len(parts)):
            inside[".".join(parts[:length])].add(path)
    found: dict[Statement, Chain] = {}
    for statements in _bodies(body):
        position = 0
        while position < len(statements):
            chain = _chain_at(statements, position, inside, callable_alone)
            if chain:
                found[statements[position]] = chain
            position += max(1, len(chain)) if not isinstance(statements[position], Loop) else 1
    return found


def container(chain: Chain) -> str:
    """The path of the container of a chain's modules."""
    assert chain[0].member is not None
    return chain[0].member.name.rpartition(".")[0]


def _bodies(body: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    yield body
    for statement in body:
        if isinstance(statement, (Loop, Recurrence)):
            for inner in statement.bodies:
                yield from _bodies(inner)


def _chain_at(
    body: Sequence[Statement],
    position: int,
    inside: dict[str, set[str]],
    callable_alone: Callable[[OperatorStep | BlockStep], bool],
) -> Chain:
    """The chain of all modules of a container that begins at a position; empty if no chain begins there."""
    first = body[position]
    if isinstance(first, Loop):
        return _chain_of(first, inside, callable_alone)
    if isinstance(first, Recurrence) or first.member is None or "." not in first.member.name:
        return []
    wanted = inside[container([first])]
    chain: Chain = []
    for statement in body[position : position + len(wanted)]:
        if isinstance(statement, (Loop, Recurrence)) or statement.member is None or statement.member.name not in wanted:
            return []
        if statement.member.shared or len(statement.operands) != 1 or len(statement.results) != 1:
            return []
        if chain:
            (before,) = chain[-1].results
            if statement.operands[0] is not before or before.uses != 1 or before.name is not None:
                return []
        if not callable_alone(statement):
            return []
        chain.append(statement)
    return chain if len(chain) == len(wanted) > 1 and _in_line(chain) else []


def _chain_of(
    loop: Loop, inside: dict[str, set[str]], callable_alone: Callable[[OperatorStep | BlockStep], bool]
) -> Chain:
    """The chain that the iterations of a loop form, or an empty one.

    In a chain, the values between the iterations have no names in the user's text.
    """
    if loop.first or loop.counts.count(loop.count) < len(loop.counts) or len(loop.carried) != 1:
        return []
    if any(local.name is not None for (local,) in loop.yields[:-1]):
        return []
    chain: Chain = []
    for iteration, parameters, yields in zip(loop.iterations, loop.parameters, loop.yields):
        statement = iteration[0]
        if len(iteration) > 1 or isinstance(statement, (Loop, Recurrence)) or statement.member is None:
            return []
        if statement.member.shared or statement.operands != parameters or statement.results != yields:
            return []
        if not callable_alone(statement):
            return []
        chain.append(statement)
    names = {statement.member.name for statement in chain if statement.member is not None}
    return chain if inside[container(chain)] == names and _in_line(chain) else []


def _in_line(chain: Chain) -> bool:
    """Return whether an `nn.Sequential` can register a chain's modules under their names, in this order."""
    prefix = f"{container(chain)}."
    names = [statement.member.name.removeprefix(prefix) for statement in chain if statement.member is not None]
    if names == [str(number) for number in range(len(names))]:
        return True
    return all(is_attribute(name) and name not in CONTAINER_MEMBERS for name in names)

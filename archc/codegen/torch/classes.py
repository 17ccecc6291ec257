"""One class of the emitted module: the members of `__init__`, the lines of `forward`, and the arguments of both.

All instances of a definition share the class.  Each statement is spelled for every instance; where the texts differ
in a literal, an argument takes its place, and where they differ in more, the instances get classes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from archc.codegen.program import Apply, Definition, Local, Loop, Statement, Use
from archc.codegen.torch import fresh
from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.chains import Chain, container, find_chains
from archc.codegen.torch.integer import Integers
from archc.codegen.torch.layout import COMMON, function_body
from archc.codegen.torch.local_types import Types
from archc.codegen.torch.members import Member, access, init_lines
from archc.codegen.torch.merge import Mismatch, check_same, merge, placeholders, substitute
from archc.codegen.torch.names import VARIABLES, Names, identifier, snake_case
from archc.codegen.torch.notes import Notes
from archc.codegen.torch.steps import Repeat, Step
from archc.codegen.torch.surroundings import Extra, Surroundings
from archc.codegen.torch.formatting import lines_of
from archc.codegen.torch.spell import module_of, spelling
from archc.ir.attributes import attributes
from archc.ir.dims import symbol
from archc.ir.graph import Graph, Node
from archc.ir.storage import Int8
from archc.ops.spelling import TorchModule, literal


@dataclass
class Context:
    """What all classes of a module share.

    Attributes:
        own: the parameters that a definition holds itself; see `archc.codegen.torch.lower`.
        plans: the classes of each definition that is done.
        names: the names in the module.
    """

    graph: Graph
    types: dict[Local, Types]
    own: Mapping[Definition, tuple[str, ...]]
    integers: Integers
    names: Names
    plans: dict[Definition, list[ClassPlan]] = field(default_factory=dict)

    def modules_of(self, statement: Apply) -> list[TorchModule] | None:
        """The module for each node of a statement, or None where it is no module."""
        if statement in self.integers.modules:
            return [self.integers.modules[statement](node) for node in statement.nodes]
        modules = []
        for node in statement.nodes:
            module = module_of(node, self.graph)
            if module is None:
                return None
            modules.append(module)
        return modules


@dataclass(eq=False)
class ClassPlan:
    """A class, ready to be laid out.

    Attributes:
        instances: which instances of the definition it serves.
        members: its modules; parameters: the arguments of its constructor; extras: those of `forward`, after
            the tensors.
        init, forward: the lines of the bodies; inputs: the names of the tensors.
        base: the class that it extends; attributes: the lines of its class attributes.
    """

    name: str
    definition: Definition
    instances: tuple[int, ...]
    members: Member
    arguments: Arguments
    extras: tuple[Extra, ...]
    init: list[str]
    forward: list[str]
    inputs: list[str]
    notes: Notes
    base: str = "nn.Module"
    attributes: tuple[str, ...] = ()

    def constructor(self, instance: int) -> list[tuple[str, str]]:
        """What an instance of the definition passes to the constructor, by name."""
        return self.arguments.of(self.instances.index(instance))


def plan(definition: Definition, context: Context) -> None:
    """Enter the classes of a definition into the context; those that it uses are there already."""
    groups = [tuple(range(len(definition.scopes)))]
    while groups:
        instances = groups.pop(0)
        try:
            made = _Planner(definition, instances, context).plan()
        except Mismatch as mismatch:
            groups[:0] = [tuple(instances[k] for k in group) for group in mismatch.groups]
        else:
            context.plans.setdefault(definition, []).append(made)


class _Planner:
    def __init__(self, definition: Definition, instances: tuple[int, ...], context: Context):
        self.definition, self.instances, self.context = definition, instances, context
        self.members = Member("")
        self.modules: set[str] = set()  # paths of modules, and of the containers around them
        for path in () if definition in context.own else _members(definition.body, context):
            self.members.at(path)
            parts = path.split(".")
            self.modules.update(".".join(parts[:k]) for k in range(1, len(parts) + 1))
        self.chains = find_chains(definition.body, self.modules, self._called_alone)
        for chain in self.chains.values():
            self.members.at(container(chain)).chained = True
        self.own = context.own.get(definition, ())
        names = frozenset((*self.members.children, *self.own))
        self.arguments = Arguments(definition, instances, names)
        self.names = Names()
        inputs = {local: self.names.take(local.name or "x") for local in definition.inputs}
        self.inputs = inputs
        types = [self._types(local) for local in definition.inputs]
        self.variables = Names([*VARIABLES, *COMMON, *_variables(definition.body), *inputs.values()])
        self._before = self.variables.copy()
        self.around = Surroundings(definition, instances, types, inputs, self.variables)
        self.notes = Notes(self.arguments.definition, self._types)
        self.renamed: dict[Local, Local] = {}
        self.shared: dict[str, str] = {}
        self.loop_variables: set[str] = set()
        self.init: list[str] = []

    def _types(self, local: Local) -> Types:
        types = self.context.types[local]
        return tuple(types[k] for k in self.instances)

    def plan(self) -> ClassPlan:
        """The class.

        Raises:
            Mismatch: no one class can serve all instances.
        """
        for parameter in self.own:
            self._register(parameter)
        steps = self._body(self.definition.body, {})
        outputs = [self._resolved(local) for local in self.definition.outputs]
        reserved = Names([*VARIABLES, *(self.variables.taken - self._before.taken)])
        body = function_body(self.inputs, steps, outputs, reserved, self.notes.line)
        sizes = [f"        {name} = {source}" for name, source in self.around.lines]
        kept = [f"        self.{self.arguments.attribute(name)} = {name}" for name in self.arguments.kept]
        plans = self.context.plans.get(self.definition, [])
        name = plans[0].name if plans else self.definition.name
        return ClassPlan(
            self.context.names.take(name),
            self.definition,
            self.instances,
            self.members,
            self.arguments,
            tuple(self.around.extras.values()),
            [*kept, *self.init, *init_lines(self.members)],
            [*sizes, *body],
            list(self.inputs.values()),
            self.notes,
            *self._base(),
        )

    def _base(self) -> tuple[str, tuple[str, ...]]:
        """The class to extend, and what it is to know of this one."""
        path = f"{self.definition.scopes[0].path}.weight"
        storage = self.context.graph.weights[path].storage if "weight" in self.own else None
        if not isinstance(storage, Int8):
            return "nn.Module", ()
        return "Int8Weight", (f"    axis = {storage.axis}",) if storage.axis else ()

    # Statements -------------------------------------------------------------------------------------------

    def _body(self, body: Sequence[Statement], bases: Mapping[str, str]) -> list[Step | Repeat]:
        """The steps of statements; `bases` holds the variables of the loops around, by the path they stand for."""
        steps: list[Step | Repeat] = []
        position = 0
        while position < len(body):
            chain = self.chains.get(body[position], [])
            statements = chain or body[position : position + 1]
            made = [step for statement in statements for step in self._statement(statement, bases)]
            steps += [self._sequence(chain, bases)] if chain else made
            position += len(statements)
        return steps

    def _sequence(self, chain: Chain, bases: Mapping[str, str]) -> Step:
        """The step that stands for all of a chain."""
        path = container(chain)
        function = self._access(path, bases)
        operands = tuple(self._resolved(local) for local in chain[0].operands)
        name = path.rpartition(".")[2]
        return Step(operands, chain[-1].results, lambda texts: f"{function}({', '.join(texts)})", True, name)

    def _called_alone(self, statement: Apply | Use) -> bool:
        """Whether calling a statement's module with its operand is all there is to it."""
        if isinstance(statement, Use):
            return not any(made.extras for made in self.context.plans[statement.definition])
        return statement.member is not None and statement.member.name in self.modules

    def _statement(self, statement: Statement, bases: Mapping[str, str]) -> list[Step | Repeat]:
        """The steps of a single statement."""
        if isinstance(statement, Loop):
            return self._loop(statement, bases)
        if isinstance(statement, Use):
            return [self._use(statement, bases)]
        return [self._apply(statement, bases)]

    def _resolved(self, local: Local) -> Local:
        while local in self.renamed:
            local = self.renamed[local]
        return local

    def _access(self, path: str, bases: Mapping[str, str]) -> str:
        """The expression of the member at a path."""
        for base, variable in bases.items():
            if path == base or path.startswith(f"{base}."):
                inner = self.members.at(base)
                return access(inner, path[len(base) + 1 :], variable)
        return access(self.members, path)

    def _use(self, use: Use, bases: Mapping[str, str]) -> Step:
        instances = [use.instances[k] for k in self.instances]
        plans = self.context.plans[use.definition]
        chosen = [next(plan for plan in plans if k in plan.instances) for k in instances]
        check_same([id(plan) for plan in chosen])
        made = chosen[0]
        rows = [made.constructor(k) for k in instances]
        arguments = [
            f"{name}={self.arguments.take(tuple(row[position][1] for row in rows), name, use.member.name)}"
            for position, (name, _) in enumerate(rows[0])
        ]
        member = self.members.at(use.member.name)
        member.text, member.plan = f"{made.name}({', '.join(arguments)})", made
        extras = [self._extra(extra, [made.instances.index(k) for k in instances], bases) for extra in made.extras]
        function = self._access(use.member.name, bases)
        return self._step(use, lambda texts: f"{function}({', '.join([*texts, *extras])})", True, use.member.name)

    def _extra(self, extra: Extra, instances: Sequence[int], bases: Mapping[str, str]) -> str:
        if extra.symbol is not None:
            texts = [self.around.size(k, symbol(extra.symbol.name)) for k in range(len(instances))]
            check_same(texts)
            return texts[0]
        return self._weight(tuple(extra.weights[k] for k in instances), bases)

    def _apply(self, statement: Apply, bases: Mapping[str, str]) -> Step:
        nodes = [statement.nodes[k] for k in self.instances]
        spelled = self.context.integers.functions.get(statement)
        if spelled is not None:
            return self._step(statement, spelled, False, nodes[0].op.name)
        modules = None if self.own else self.context.modules_of(statement)
        if modules is None:
            return self._function(statement, nodes, bases)
        text = self._constructor([modules[k] for k in self.instances], statement.member and statement.member.name)
        if statement.member is None:
            path = self._anonymous(nodes[0].op.name, text)
        else:
            path = statement.member.name
            self.members.at(path).text = text
        function = self._access(path, bases)
        layer = bool(nodes[0].weights)
        return self._step(statement, lambda texts: f"{function}({', '.join(texts)})", layer, path)

    def _anonymous(self, wanted: str, text: str) -> str:
        """The member for a layer without name or weights; those with equal constructors are one."""
        if text not in self.shared:
            name = Names([*self.members.children, *self.own]).take(wanted)
            self.members.at(name).text = text
            self.shared[text] = name
        return self.shared[text]

    def _constructor(self, modules: Sequence[TorchModule], layer: str | None) -> str:
        first = modules[0]
        check_same([(module.function, tuple(module.positional), tuple(module.named)) for module in modules])
        arguments = [
            self.arguments.take(tuple(literal(module.positional[name]) for module in modules), name, layer or "")
            for name in first.positional
        ]
        for name, (_, default) in first.named.items():
            if any(module.named[name][0] != default for module in modules):
                values = tuple(literal(module.named[name][0]) for module in modules)
                arguments.append(f"{name}={self.arguments.take(values, name, layer or '')}")
        return f"{first.function}({', '.join(arguments)})"

    def _step(self, statement: Apply | Use, spell: Callable[[Sequence[str]], str], layer: bool, name: str) -> Step:
        operands = tuple(self._resolved(local) for local in statement.operands)
        light = statement in self.context.integers.quantizers
        return Step(operands, statement.results, spell, layer, name.rpartition(".")[2], light)

    # Functions --------------------------------------------------------------------------------------------

    def _function(self, statement: Apply, nodes: Sequence[Node], bases: Mapping[str, str]) -> Step:
        first = nodes[0]
        weights = {
            name: self._weight(tuple(node.weights[name] for node in nodes), bases) for name in first.weights
        }
        if any(node.op != first.op or node.types != first.types for node in nodes[1:]):
            holes = placeholders(len(first.operands))
            texts = [self._spell(k, node, holes, weights) for k, node in enumerate(nodes)]
            hints = _hints(nodes)
            layer = statement.member.name if statement.member is not None else first.op.name
            merged = merge(texts, lambda values, keyword: self._keep(values, hints.get(values) or keyword, layer))
            kind = type(texts[0])
            return self._step(statement, lambda operands: kind(substitute(merged, operands)), False, first.op.name)
        return self._step(
            statement, lambda operands: self._spell(0, first, operands, weights), False, first.op.name
        )

    def _keep(self, values: tuple[str, ...], hint: str, layer: str) -> str:
        return self.arguments.keep(values, hint or layer, layer)

    def _spell(self, instance: int, node: Node, operands: Sequence[str], weights: Mapping[str, str]) -> str:
        return node.op.torch(
            spelling(
                node,
                self.context.graph,
                operands,
                weights,
                lambda dim: self.around.size(instance, dim),
                f"{operands[0]}.device" if operands and operands[0].isidentifier() else self.around.device,
            )
        )

    def _weight(self, paths: tuple[str, ...], bases: Mapping[str, str]) -> str:
        """The expression of what a weight decodes to."""
        relative = self.around.weight(paths)
        if relative is None:
            return self.around.extra_weight(paths)
        owner, _, name = relative.rpartition(".")
        module = self._access(owner, bases) if owner else "self"
        weight = self.context.graph.weights[paths[0]]
        return fresh.decoded(weight.storage, module, name, len(weight.shape), weight.dtype)

    def _register(self, parameter: str) -> None:
        """Add a parameter, or what is stored for it, to `__init__`."""
        paths = [self.definition.scopes[k].path for k in self.instances]
        weights = [self.context.graph.weights[f"{path}.{parameter}"] for path in paths]
        rows = [fresh.registrations(weight, parameter) for weight in weights]
        for name in rows[0]:
            text = merge([row[name] for row in rows], lambda values, keyword: self.arguments.take(values, keyword or "size"))
            if text.startswith("nn.Parameter("):
                self.init += lines_of(f"self.{name} = ", text, 2)
            else:
                self.init += lines_of("", f"self.register_buffer({literal(name)}, {text})", 2)

    # Loops ------------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop, bases: Mapping[str, str]) -> list[Step | Repeat]:
        for parameters, entering in zip(loop.parameters, (loop.carried, *loop.yields)):
            for slot, local in enumerate(parameters):
                if all(row[slot] is own[slot] for row, own in zip(loop.yields, loop.parameters)):
                    self.renamed |= {local: entering[slot], loop.results[slot]: entering[slot]}
        variables: dict[str, str] = {}
        for name in loop.lists:
            if name in self.modules:
                variables[name] = self._loop_variable(name, loop, {*bases.values(), *variables.values()})
        first: list[Step | Repeat] = []
        texts: list[str] = []
        for number, iteration in enumerate(loop.iterations):
            inner = {**bases, **{f"{name}.{number}": variable for name, variable in variables.items()}}
            steps = self._body(iteration, inner)
            if not number:
                first, texts = steps, _texts(steps)
            elif _texts(steps) != texts:
                return self._unrolled(loop, bases)
        changing = [slot for slot, local in enumerate(loop.parameters[0]) if local not in self.renamed]
        lists = ", ".join(self._access(name, bases) for name in variables)
        over = f"zip({lists})" if len(variables) > 1 else lists or f"range({loop.count})"
        header = f"for {', '.join(variables.values()) or '_'} in {over}"

        def picked(locals_: Sequence[Local]) -> tuple[Local, ...]:
            return tuple(locals_[slot] for slot in changing)

        return [
            Repeat(
                header,
                first,
                tuple(self._resolved(local) for local in picked(loop.carried)),
                picked(loop.parameters[0]),
                tuple(self._resolved(local) for local in picked(loop.yields[0])),
                picked(loop.results),
            )
        ]

    def _unrolled(self, loop: Loop, bases: Mapping[str, str]) -> list[Step | Repeat]:
        """The steps of all iterations one after the other: they differ in more than the layers that they use."""
        steps: list[Step | Repeat] = []
        entering = loop.carried
        for iteration, parameters, yields in zip(loop.iterations, loop.parameters, loop.yields):
            self.renamed |= dict(zip(parameters, entering))
            steps += self._body(iteration, bases)
            entering = yields
        self.renamed |= dict(zip(loop.results, entering))
        return steps

    def _loop_variable(self, name: str, loop: Loop, taken: Collection[str]) -> str:
        """What to call an element of a list: after its block, or the list's name in the singular."""
        last = name.rpartition(".")[2]
        singular = last[:-1] if len(last) > 3 and last.endswith("s") and not last.endswith("ss") else last
        for statement in loop.iterations[0]:
            if isinstance(statement, Use) and statement.member.name == f"{name}.0":
                # `block` for a `BasicBlock`
                singular = snake_case(statement.definition.scopes[0].definition).rpartition("_")[2]
        singular = identifier(singular)
        clashes = singular in self.variables and singular not in self.loop_variables
        base = "layer" if len(singular) == 1 or clashes else singular
        # The variable of another loop serves again, if that loop is not around this one.
        if base not in self.loop_variables or base in taken:
            base = self.variables.take(base)
            self.loop_variables.add(base)
        return base


def _texts(steps: Sequence[Step | Repeat]) -> list[str]:
    """The texts of steps, whatever their operands are called."""
    found = []
    for step in steps:
        if isinstance(step, Repeat):
            found += [step.header, *_texts(step.body)]
        else:
            found.append(step.spell(placeholders(len(step.operands))))
    return found


def _members(body: Sequence[Statement], context: Context) -> Iterator[str]:
    """The paths of the members that are modules."""
    for statement in body:
        if isinstance(statement, Loop):
            for iteration in statement.iterations:
                yield from _members(iteration, context)
        elif isinstance(statement, Use):
            yield statement.member.name
        elif statement.member is not None and context.modules_of(statement) is not None:
            yield statement.member.name


def _variables(body: Sequence[Statement]) -> Iterator[str]:
    """The names that the text gives to tensors."""
    for statement in body:
        for local in statement.results:
            if local.name:
                yield identifier(local.name)
        if isinstance(statement, Loop):
            for iteration in statement.iterations:
                yield from _variables(iteration)


def _hints(nodes: Sequence[Node]) -> dict[tuple[str, ...], str]:
    """The attributes of an operator by their literals in all instances."""
    found: dict[tuple[str, ...], str] = {}
    for info in attributes(type(nodes[0].op)):
        values = [getattr(node.op, info.name) for node in nodes]
        if all(isinstance(value, (bool, int, float, str, tuple)) for value in values):
            found.setdefault(tuple(literal(value) for value in values), info.name)
    return found

"""One class of the emitted module: the members of `__init__`, the lines of `forward`, and the arguments of both.

All instances of a definition share the class.  Each statement is spelled for every instance; where the texts differ
in a literal, an argument takes its place, and where they differ in more, the instances get classes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from archc.codegen.outline.program import Apply, Definition, Local, Loop, Recurrence, Statement, Use
from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.borrowed import borrowed
from archc.codegen.torch.chains import Chain, container, find_chains
from archc.codegen.torch.class_loops import Loops
from archc.codegen.torch.constructions import Construction, construction
from archc.codegen.torch.expressions import Bases, Expressions
from archc.codegen.torch.int8.lines import Line
from archc.codegen.torch.layout import COMMON, function_body
from archc.codegen.torch.local_types import Types
from archc.codegen.torch.members import Member, access, init_lines
from archc.codegen.torch.merge import Mismatch, check_same
from archc.codegen.torch.names import VARIABLES, Names
from archc.codegen.torch.notes import Notes
from archc.codegen.torch.plans import ClassPlan, Context
from archc.codegen.torch.reading import module_paths, tensor_names
from archc.codegen.torch.steps import Repeat, Step
from archc.codegen.torch.surroundings import Surroundings
from archc.operator.spelling import method
from archc.types.storage import Int8


def plan(definition: Definition, context: Context) -> None:
    """Enter the classes of a definition into the context; those that it uses are there already."""
    groups = [tuple(range(len(definition.scopes)))]
    while groups:
        instances = groups.pop(0)
        try:
            made = Planner(definition, instances, context).plan()
        except Mismatch as mismatch:
            groups[:0] = [tuple(instances[k] for k in group) for group in mismatch.groups]
        else:
            context.enter(made)


def call_module(module: str, operands: Sequence[str]) -> str:
    """The expression of a module that takes the operands as they come."""
    return f"{module}({', '.join(operands)})"


class Planner:
    """Plans the class of some instances of a definition, statement by statement."""

    def __init__(self, definition: Definition, instances: tuple[int, ...], context: Context):
        self.definition, self.instances, self.context = definition, instances, context
        self.members = Member("")
        self.modules: set[str] = set()  # paths of modules, and of the containers around them
        for path in () if definition in context.own else module_paths(definition.body, context, instances):
            self.members.at(path).text = ""
            parts = path.split(".")
            self.modules.update(".".join(parts[:k]) for k in range(1, len(parts) + 1))
        self.chains = find_chains(definition.body, self.modules, self._called_alone)
        self.holders = borrowed(context.graph) if definition.scopes[0] is context.graph.scope else []
        for holder in self.holders:
            self.members.at(holder.path).text = holder.constructor()
        for chain in self.chains.values():
            self.members.at(container(chain)).chained = True
        self.own = context.own.get(definition, ())
        names = {*self.members.children, *self.own}
        classes = (made.name for plans in context.plans.values() for made in plans)
        self.arguments = Arguments(definition, instances, names, classes)
        self.names = Names()
        inputs = {local: self.names.take(local.name or "x") for local in definition.inputs}
        self.inputs = inputs
        types = [self.types(local) for local in definition.inputs]
        self.tensor_names = frozenset((*COMMON, *tensor_names(definition.body), *inputs.values()))
        self.variables = Names(VARIABLES | self.tensor_names)
        self.around = Surroundings(definition, instances, types, inputs, self.variables)
        self.expressions = Expressions(definition, instances, context, self.members, self.arguments, self.around)
        self.notes = Notes(self.arguments.definition, self.types)
        self.renamed: dict[Local, Local] = {}
        self.shared: dict[str, str] = {}
        self.loops = Loops(self)
        self.elements: dict[Statement, str] = {}  # constructors that are found for all elements of a list together
        self.init: list[str] = []

    def types(self, local: Local) -> Types:
        """The types of a tensor, one for each instance that the class serves."""
        types = self.context.types[local]
        return tuple(types[k] for k in self.instances)

    def plan(self) -> ClassPlan:
        """The class.

        Raises:
            Mismatch: no one class can serve all instances.
        """
        for parameter in self.own:
            self.init += self.expressions.registration(parameter)
        steps = self.body(self.definition.body, {})
        outputs = self._outputs(steps)
        body = function_body(self.inputs, steps, outputs, self._reserved, self.notes.line)
        sizes = [f"        {name} = {source}" for name, source in self.around.lines]
        held = [line for each in self.holders for line in each.registrations(access(self.members, each.path))]
        kept = [f"        self.{attribute} = {name}" for name, attribute in self.arguments.kept.items()]
        return ClassPlan(
            self.definition.name,
            self.definition,
            self.instances,
            self.members,
            self.arguments,
            tuple(self.around.extras.values()),
            [*kept, *self.init, *init_lines(self.members), *held],
            [*sizes, *body],
            list(self.inputs.values()),
            self.notes,
            *self._base(),
        )

    def _outputs(self, steps: list[Step | Repeat]) -> list[Local]:
        """What `forward` returns; a step more for each image that is to be in the usual order."""
        outputs = [self.resolved(local) for local in self.definition.outputs]
        if self.definition.scopes[0] is self.context.graph.scope:
            for position in self.context.images:
                image = outputs[position]
                outputs[position] = Local(image.type, image.name, uses=1)
                self.context.types[outputs[position]] = self.context.types[image]
                steps.append(Step((image,), (outputs[position],), lambda texts: method(texts[0], "contiguous")))
        return outputs

    def _reserved(self, name: str) -> bool:
        """Whether a variable of `forward` is no tensor made by a step, but a size, an argument or a loop's."""
        return name in VARIABLES or (name in self.variables and name not in self.tensor_names)

    def _base(self) -> tuple[str, tuple[str, ...]]:
        """The class to extend, and what it is to know of this one."""
        path = f"{self.definition.scopes[0].path}.weight"
        storage = self.context.graph.weights[path].storage if "weight" in self.own else None
        if not isinstance(storage, Int8):
            return "nn.Module", ()
        return "Int8Weight", (f"    axis = {storage.axis}",) if storage.axis else ()

    # Statements -------------------------------------------------------------------------------------------

    def body(self, body: Sequence[Statement], bases: Bases) -> list[Step | Repeat]:
        """The steps of statements; `bases` holds the variables of the loops around, by the path they stand for."""
        steps: list[Step | Repeat] = []
        position = 0
        while position < len(body):
            line = self.context.integers.lines.get(body[position])
            if line is not None:
                steps.append(self._line(line, bases))
                position += len(line.statements)
                continue
            chain = self.chains.get(body[position], [])
            position += len(chain) if chain and not isinstance(body[position], Loop) else 1
            statements = chain or body[position - 1 : position]
            loop = body[position - 1]
            if chain and isinstance(loop, Loop):
                self.renamed |= {loop.parameters[0][0]: loop.carried[0], loop.results[0]: loop.yields[-1][0]}
            made = [step for statement in statements for step in self._statement(statement, bases)]
            steps += [self._sequence(chain, bases)] if chain else made
        return steps

    def _line(self, line: Line, bases: Bases) -> Step:
        """The step that stands for all of a line of layers."""
        for statement in line.statements:
            self._statement(statement, bases)  # for the members

        def spell(texts: Sequence[str]) -> str:
            return line.spell(
                texts[0],
                lambda path: self.expressions.access(path, bases),
                lambda path, count: self.members.at(path).elements(self.expressions.access(path, bases), 0, count),
                lambda step, text: self.context.integers.functions[step]([text]),
            )

        return Step((self.resolved(line.parts[0].operand),), (line.result,), spell, True)

    def _sequence(self, chain: Chain, bases: Bases) -> Step:
        """The step that stands for all of a chain."""
        path = container(chain)
        function = self.expressions.access(path, bases)
        operands = tuple(self.resolved(local) for local in chain[0].operands)
        names = (path.rpartition(".")[2],)
        return Step(operands, chain[-1].results, lambda texts: f"{function}({', '.join(texts)})", True, names)

    def _called_alone(self, statement: Apply | Use) -> bool:
        """Whether calling a statement's module with its operand is all there is to it."""
        if isinstance(statement, Use):
            return not any(made.extras for made in self.context.plans[statement.definition])
        if statement in self.context.integers.targets or statement in self.context.integers.absorbed:
            return False
        modules = self.context.modules_of(statement)
        if modules is not None and modules[0].use is not None:
            return False
        return statement.member is not None and statement.member.name in self.modules

    def _statement(self, statement: Statement, bases: Bases) -> list[Step | Repeat]:
        """The steps of a single statement."""
        if isinstance(statement, Loop):
            return self.loops.loop(statement, bases)
        if isinstance(statement, Recurrence):
            return self.loops.recurrence(statement, bases)
        if isinstance(statement, Use):
            return [self._use(statement, bases)]
        step = self._apply(statement, bases)
        if statement in self.context.integers.absorbed:
            self.renamed[statement.results[0]] = statement.operands[0]
            return []
        return [step]

    def resolved(self, local: Local) -> Local:
        """The tensor that one stands for: what a step that left no trace was given."""
        while local in self.renamed:
            local = self.renamed[local]
        return local

    def _use(self, use: Use, bases: Bases) -> Step:
        instances = [use.instances[k] for k in self.instances]
        made = self._chosen(use)
        member = self.members.at(use.member.name)
        member.text = self.elements.get(use) or self.construction(use).text(self.arguments)
        member.plan = made
        extras = [self.expressions.extra(extra, [made.position[k] for k in instances], bases) for extra in made.extras]
        function = self.expressions.access(use.member.name, bases)
        return self._step(use, lambda texts: f"{function}({', '.join([*texts, *extras])})", True, use.member.name)

    def _chosen(self, use: Use) -> ClassPlan:
        """The class of what is used, which must be the same in all instances."""
        plans = self.context.plans[use.definition]
        chosen = [next(plan for plan in plans if use.instances[k] in plan.position) for k in self.instances]
        check_same([id(plan) for plan in chosen])
        return chosen[0]

    def construction(self, statement: Apply | Use) -> Construction:
        """The constructor of the module of a statement, which has one."""
        layer = statement.member.name if statement.member is not None else ""
        if isinstance(statement, Apply):
            modules = self.context.modules_of(statement)
            assert modules is not None, "only modules are constructed"
            return construction([modules[k] for k in self.instances], layer)
        made = self._chosen(statement)
        return Construction(made.name, made.given([statement.instances[k] for k in self.instances]), layer)

    def _apply(self, statement: Apply, bases: Bases) -> Step:
        nodes = [statement.nodes[k] for k in self.instances]
        spelled = self.context.integers.functions.get(statement)
        if spelled is not None:
            return self._step(statement, spelled, False, nodes[0].op.name)
        modules = None if self.own else self.context.modules_of(statement)
        operator, member = nodes[0].op.name, statement.member
        if modules is None:
            function = self.expressions.function(nodes, bases, member.name if member is not None else operator)
            return self._step(statement, function, False, operator)
        modules = [modules[k] for k in self.instances]
        text = self.elements.get(statement) or self.construction(statement).text(self.arguments)
        path = member.name if member is not None else self._anonymous(operator, text)
        self.members.at(path).text = text
        module = self.expressions.access(path, bases)
        further = self._target(statement, bases)
        use = modules[0].use or call_module
        step = self._step(statement, lambda texts: use(module, [*texts, *further]), bool(nodes[0].weights), path)
        step.unpack = modules[0].unpack
        return step

    def _target(self, statement: Apply, bases: Bases) -> list[str]:
        """The arguments that tell an integer layer what becomes of its result."""
        target = self.context.integers.targets.get(statement)
        if target is None:
            return []
        assert target.quantize.member is not None, "what has buffers has a name"
        return [self.expressions.access(target.quantize.member.name, bases), *(["relu=True"] if target.relu else [])]

    def _anonymous(self, wanted: str, text: str) -> str:
        """The member for a layer without name or weights; those with equal constructors are one."""
        if text not in self.shared:
            name = Names([*self.arguments.members, *self.arguments.kept.values()]).take(wanted)
            self.arguments.members.add(name)
            self.shared[text] = name
        return self.shared[text]

    def _step(self, statement: Apply | Use, spell: Callable[[Sequence[str]], str], layer: bool, name: str) -> Step:
        operands = tuple(self.resolved(local) for local in statement.operands)
        names: tuple[str, ...] = (name.rpartition(".")[2],)
        light = statement in self.context.integers.quantizers
        if light:
            names = ("quantized",)
        elif isinstance(statement, Apply) and len(statement.results) > 1:
            node = statement.nodes[0]
            names = tuple(pattern.name for pattern in node.op.signature_for(node.types).results)
        return Step(operands, statement.results, spell, layer, names, light)

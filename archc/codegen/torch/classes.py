"""One class of the emitted module: the members of `__init__`, the lines of `forward`, and the arguments of both.

All instances of a definition share the class.  Each statement is spelled for every instance; where the texts differ
in a literal, an argument takes its place, and where they differ in more, the instances get classes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from archc.codegen.program import Apply, Definition, Local, Loop, Recurrence, Statement, Use
from archc.codegen.torch.arguments import Arguments
from archc.codegen.torch.borrowed import borrowed
from archc.codegen.torch.chains import Chain, container, find_chains
from archc.codegen.torch.constructions import INDEX, Construction, construction, element_texts
from archc.codegen.torch.expressions import Bases, Expressions
from archc.codegen.torch.layout import COMMON, function_body
from archc.codegen.torch.lines import Line
from archc.codegen.torch.local_types import Types
from archc.codegen.torch.members import Member, access, init_lines
from archc.codegen.torch.merge import Mismatch, check_same
from archc.codegen.torch.names import VARIABLES, Names, identifier, snake_case
from archc.codegen.torch.notes import Notes
from archc.codegen.torch.plans import ClassPlan, Context
from archc.codegen.torch.reading import iterations, module_paths, results_of, steps_of, tensor_names, texts_of
from archc.codegen.torch.steps import Repeat, Step, Steps
from archc.codegen.torch.surroundings import Surroundings
from archc.ir.storage import Int8
from archc.ops.spelling import method


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
            context.enter(made)


def call_module(module: str, operands: Sequence[str]) -> str:
    """The expression of a module that takes the operands as they come."""
    return f"{module}({', '.join(operands)})"


class _Planner:
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
        names = frozenset((*self.members.children, *self.own))
        self.arguments = Arguments(definition, instances, names)
        self.names = Names()
        inputs = {local: self.names.take(local.name or "x") for local in definition.inputs}
        self.inputs = inputs
        types = [self._types(local) for local in definition.inputs]
        self.tensor_names = frozenset((*COMMON, *tensor_names(definition.body), *inputs.values()))
        self.variables = Names(VARIABLES | self.tensor_names)
        self.around = Surroundings(definition, instances, types, inputs, self.variables)
        self.expressions = Expressions(definition, instances, context, self.members, self.arguments, self.around)
        self.notes = Notes(self.arguments.definition, self._types)
        self.renamed: dict[Local, Local] = {}
        self.shared: dict[str, str] = {}
        self.loop_variables: set[str] = set()
        self.elements: dict[Statement, str] = {}  # constructors that are found for all elements of a list together
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
            self.init += self.expressions.registration(parameter)
        steps = self._body(self.definition.body, {})
        outputs = self._outputs(steps)
        body = function_body(self.inputs, steps, outputs, self._reserved, self.notes.line)
        sizes = [f"        {name} = {source}" for name, source in self.around.lines]
        held = [line for each in self.holders for line in each.registrations(access(self.members, each.path))]
        kept = [f"        self.{self.arguments.attribute(name)} = {name}" for name in self.arguments.kept]
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
        outputs = [self._resolved(local) for local in self.definition.outputs]
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

    def _body(self, body: Sequence[Statement], bases: Bases) -> list[Step | Repeat]:
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
                lambda step, text: self.context.integers.functions[step]([text]),
            )

        return Step((self._resolved(line.parts[0].operand),), (line.result,), spell, True)

    def _sequence(self, chain: Chain, bases: Bases) -> Step:
        """The step that stands for all of a chain."""
        path = container(chain)
        function = self.expressions.access(path, bases)
        operands = tuple(self._resolved(local) for local in chain[0].operands)
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
            return self._loop(statement, bases)
        if isinstance(statement, Recurrence):
            return self._recurrence(statement, bases)
        if isinstance(statement, Use):
            return [self._use(statement, bases)]
        step = self._apply(statement, bases)
        if statement in self.context.integers.absorbed:
            self.renamed[statement.results[0]] = statement.operands[0]
            return []
        return [step]

    def _resolved(self, local: Local) -> Local:
        while local in self.renamed:
            local = self.renamed[local]
        return local

    def _use(self, use: Use, bases: Bases) -> Step:
        instances = [use.instances[k] for k in self.instances]
        made = self._chosen(use)
        member = self.members.at(use.member.name)
        member.text = self.elements.get(use) or self._construction(use).text(self.arguments)
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

    def _construction(self, statement: Apply | Use) -> Construction:
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
        text = self.elements.get(statement) or self._construction(statement).text(self.arguments)
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
            name = Names([*self.members.children, *self.own, *self.shared.values()]).take(wanted)
            self.shared[text] = name
        return self.shared[text]

    def _step(self, statement: Apply | Use, spell: Callable[[Sequence[str]], str], layer: bool, name: str) -> Step:
        operands = tuple(self._resolved(local) for local in statement.operands)
        names: tuple[str, ...] = (name.rpartition(".")[2],)
        light = statement in self.context.integers.quantizers
        if light:
            names = ("quantized",)
        elif isinstance(statement, Apply) and len(statement.results) > 1:
            node = statement.nodes[0]
            names = tuple(pattern.name for pattern in node.op.signature_for(node.types).results)
        return Step(operands, statement.results, spell, layer, names, light)

    # Loops ------------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop, bases: Bases) -> list[Step | Repeat]:
        counts = [loop.counts[k] for k in self.instances]
        if any(count != counts[0] for count in counts):
            self._take_elements(loop, counts)
        elif loop.first and counts[0] == 2:
            return self._unrolled(loop, bases)  # the rest of a list is worth no loop if it is that short
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
        for number, iteration in enumerate(iterations(loop, self.instances), loop.first):
            inner = {**bases, **{f"{name}.{number}": variable for name, variable in variables.items()}}
            steps = self._body(iteration, inner)
            if number == loop.first:
                first, texts = steps, texts_of(steps)
            elif texts_of(steps) != texts:
                check_same(counts)
                return self._unrolled(loop, bases)
            results = zip(results_of(first), results_of(steps), strict=True)
            self.notes.silent.update(local for local, same in results if self._types(local) != self._types(same))
        changing = [slot for slot, local in enumerate(loop.parameters[0]) if local not in self.renamed]
        rest = f"[{loop.first}:]" if loop.first else ""
        lists = ", ".join(f"{self.expressions.access(name, bases)}{rest}" for name in variables)
        over = f"zip({lists})" if len(variables) > 1 else lists or f"range({counts[0]})"
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

    def _take_elements(self, loop: Loop, counts: Sequence[int]) -> None:
        """Find the constructors of the elements of lists that have not the same length in all instances."""
        if not any(name in self.modules for name in loop.lists):
            check_same(counts)
        self.arguments.reserve(INDEX)
        for row in zip(*map(steps_of, iterations(loop, self.instances))):
            if row[0].member is not None and row[0].member.name in self.modules:
                calls = [self._construction(statement) for statement in row]
                texts = element_texts(calls, counts, loop.first, self.arguments)
                self.elements |= zip(row, texts)
        for name in loop.lists:
            if name in self.modules:
                lengths = tuple(str(loop.first + count) for count in counts)
                self.members.at(name).length = self.arguments.take(lengths, "depth", name)

    def _recurrence(self, scan: Recurrence, bases: Bases) -> list[Step | Repeat]:
        """The loop over the steps of a scan, and what puts together again what is kept of them."""
        body = self._body(scan.body, bases)
        read = [(kept, stacked) for kept, stacked in zip(scan.kept, scan.stacked) if stacked.uses]
        lists = tuple(
            Local(kept.type, "outputs" if len(read) == 1 else f"{stacked.name or 'output'}_steps")
            for kept, stacked in read
        )
        for local, (kept, _) in zip(lists, read):
            self.context.types[local] = self.context.types[kept]
        steps = Steps(
            sequences=tuple(map(self._resolved, scan.sequences)),
            items=scan.items,
            kept=tuple(self._resolved(kept) for kept, _ in read),
            lists=lists,
            names=tuple(kept.name or f"{stacked.name or 'y'}_t" for kept, stacked in read),
        )
        loop = Repeat(
            "",
            body,
            tuple(map(self._resolved, scan.first_states)),
            scan.states,
            tuple(map(self._resolved, scan.next_states)),
            (*scan.last_states, *lists),
            steps,
        )
        stacks = [
            Step((local,), (stacked,), lambda texts: f"torch.stack({texts[0]}, 1)")
            for local, (_, stacked) in zip(lists, read)
        ]
        return [loop, *stacks]

    def _unrolled(self, loop: Loop, bases: Bases) -> list[Step | Repeat]:
        """The steps of all iterations one after the other: they differ in more than the layers that they use."""
        steps: list[Step | Repeat] = []
        entering = loop.carried
        for iteration, parameters, yields in zip(iterations(loop, self.instances), loop.parameters, loop.yields):
            self.renamed |= dict(zip(parameters, entering))
            steps += self._body(iteration, bases)
            entering = yields
        self.renamed |= dict(zip(loop.results, entering))
        return steps

    def _loop_variable(self, name: str, loop: Loop, taken: Collection[str]) -> str:
        """What to call an element of a list: after its block, or the list's name in the singular."""
        last = next((part for part in reversed(name.split(".")) if not part.isdigit()), "layer")
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

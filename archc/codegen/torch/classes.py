"""Translation of a definition (the model or a block) into one or more classes.

All instances of a definition share a class where possible.  Each statement is translated for every instance.  If the
texts of the instances differ only in literals, constructor arguments replace the literals; otherwise the instances are
split into several classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Local,
    Loop,
    OperatorStep,
    Recurrence,
    Statement,
)
from archc.codegen.torch.class_loops import LoopPlanner
from archc.codegen.torch.class_plan import ClassDraft, ClassPlan, ModuleContext
from archc.codegen.torch.expressions import Bases
from archc.codegen.torch.function_body import function_body
from archc.codegen.torch.members import Chain, access, container, init_lines
from archc.codegen.torch.merge import Mismatch
from archc.codegen.torch.names import VARIABLES, PythonNames
from archc.codegen.torch.nesting import Repeat, Step
from archc.codegen.torch.parameters import base_classes, of_stored
from archc.declaration.spelling import method
from archc.types.storage import Int8


def add_classes(definition: BlockDefinition, context: ModuleContext) -> None:
    """Add the classes of a definition to the context, which already has those of its inner definitions."""
    groups = [tuple(range(len(definition.scopes)))]
    while groups:
        instances = groups.pop(0)
        try:
            made = ClassPlanner(ClassDraft(definition, instances, context)).plan()
        except Mismatch as mismatch:
            groups[:0] = [tuple(instances[k] for k in group) for group in mismatch.groups]
        else:
            context.enter(made)


def call_module(module: str, operands: Sequence[str]) -> str:
    """The call of a module with its operands as arguments."""
    return f"{module}({', '.join(operands)})"


class ClassPlanner:
    """Translates the statements of one class."""

    def __init__(self, draft: ClassDraft):
        self.draft, self.context = draft, draft.context
        self.loops = LoopPlanner(draft, self.body)
        self.anonymous: dict[str, str] = {}  # members for layers without a name, by constructor text
        self.init: list[str] = []

    def plan(self) -> ClassPlan:
        """The finished class.

        Raises:
            Mismatch: the instances need different classes.
        """
        for parameter in self.draft.own:
            self.init += self.draft.expressions.registration(parameter)
        steps = self.body(self.draft.definition.body, {})
        outputs = self._outputs(steps)
        body = function_body(self.draft.inputs, steps, outputs, self._reserved, self.draft.comments.line)
        sizes = [f"        {name} = {source}" for name, source in self.draft.outer.lines]
        members = self.draft.members
        held = [line for each in self.draft.holders for line in each.registrations(access(members, each.path))]
        kept = [f"        self.{attribute} = {name}" for name, attribute in self.draft.arguments.kept.items()]
        return ClassPlan(
            self.draft.definition.name,
            self.draft.definition,
            self.draft.instances,
            members,
            self.draft.arguments,
            tuple(self.draft.outer.extras.values()),
            [*kept, *self.init, *init_lines(members), *held],
            [*sizes, *body],
            list(self.draft.inputs.values()),
            self.draft.comments,
            *self._base(),
        )

    def _outputs(self, steps: list[Step | Repeat]) -> list[Local]:
        """The results of `forward`; add a step to make each image output contiguous."""
        outputs = [self.draft.resolved(local) for local in self.draft.definition.outputs]
        if self.draft.definition.scopes[0] is self.context.graph.scope:
            for position in self.context.images:
                image = outputs[position]
                outputs[position] = Local(image.type, image.name, uses=1)
                self.context.types[outputs[position]] = self.context.types[image]
                steps.append(Step((image,), (outputs[position],), lambda texts: method(texts[0], "contiguous")))
        return outputs

    def _reserved(self, name: str) -> bool:
        """Return whether a name belongs to a size, an argument, a loop variable or a global."""
        return name in VARIABLES or (name in self.draft.variables and name not in self.draft.tensor_names)

    def _base(self) -> tuple[str, tuple[str, ...]]:
        """The base class and the lines of the class attributes."""
        path, weights = self.draft.definition.scopes[0].path, self.context.graph.weights
        storages = of_stored({parameter: weights[f"{path}.{parameter}"].storage for parameter in self.draft.own})
        storage = storages.get("weight")
        axis = storage.axis if isinstance(storage, Int8) else None
        return base_classes(storages), (f"    axis = {axis}",) if axis else ()

    # Statements -------------------------------------------------------------------------------------------

    def body(self, body: Sequence[Statement], bases: Bases) -> list[Step | Repeat]:
        """The steps of statements.

        Args:
            bases: maps the path of a module in a list to the loop variable that holds the module.  For example, it maps
                `blocks.0` to `block` in the first iteration of `for block in self.blocks`.
        """
        steps: list[Step | Repeat] = []
        position = 0
        while position < len(body):
            chain = self.draft.chains.get(body[position], [])
            position += len(chain) if chain and not isinstance(body[position], Loop) else 1
            statements = chain or body[position - 1 : position]
            loop = body[position - 1]
            if chain and isinstance(loop, Loop):
                self.draft.renamed |= {loop.parameters[0][0]: loop.carried[0], loop.results[0]: loop.yields[-1][0]}
            made = [step for statement in statements for step in self._statement(statement, bases)]
            steps += [self._sequence(chain, bases)] if chain else made
        return steps

    def _sequence(self, chain: Chain, bases: Bases) -> Step:
        """The step that calls the `nn.Sequential` of a chain."""
        path = container(chain)
        function = self.draft.access(path, bases)
        operands = tuple(self.draft.resolved(local) for local in chain[0].operands)
        names = (path.rpartition(".")[2],)
        return Step(operands, chain[-1].results, lambda texts: f"{function}({', '.join(texts)})", True, names)

    def _statement(self, statement: Statement, bases: Bases) -> list[Step | Repeat]:
        """The steps of a single statement."""
        if isinstance(statement, Loop):
            return self.loops.loop(statement, bases)
        if isinstance(statement, Recurrence):
            return self.loops.recurrence(statement, bases)
        if isinstance(statement, BlockStep):
            return [self._use(statement, bases)]
        step = self._apply(statement, bases)
        if statement in self.context.integer_layers.absorbed:
            self.draft.renamed[statement.results[0]] = statement.operands[0]
            return []
        return [step]

    def _use(self, use: BlockStep, bases: Bases) -> Step:
        """The step of a block use; adds the block to the modules of the class."""
        instances = [use.instances[k] for k in self.draft.instances]
        made = self.draft.class_of(use)
        member = self.draft.members.at(use.member.name)
        member.text = self.draft.element_constructors.get(use) or self.draft.construction(use).text(
            self.draft.arguments
        )
        member.inside = made.members
        extras = [
            self.draft.expressions.extra(extra, [made.position[k] for k in instances], bases) for extra in made.extras
        ]
        function = self.draft.access(use.member.name, bases)
        return self._step(use, lambda texts: f"{function}({', '.join([*texts, *extras])})", True, use.member.name)

    def _apply(self, statement: OperatorStep, bases: Bases) -> Step:
        """The step of an operator: a call of a module, which is added to the class, or an expression."""
        nodes = [statement.nodes[k] for k in self.draft.instances]
        spelled = self.context.integer_layers.functions.get(statement)
        if spelled is not None:
            return self._step(statement, spelled, False, nodes[0].op.name)
        modules = None if self.draft.own else self.context.modules_of(statement)
        operator, member = nodes[0].op.name, statement.member
        if modules is None:
            function = self.draft.expressions.function(nodes, bases, member.name if member is not None else operator)
            return self._step(statement, function, False, operator)
        modules = [modules[k] for k in self.draft.instances]
        text = self.draft.element_constructors.get(statement) or self.draft.construction(statement).text(
            self.draft.arguments
        )
        path = member.name if member is not None else self._anonymous(operator, text)
        self.draft.members.at(path).text = text
        module = self.draft.access(path, bases)
        further = self._target(statement, bases)
        use = modules[0].use or call_module
        step = self._step(statement, lambda texts: use(module, [*texts, *further]), bool(nodes[0].weights), path)
        step.unpack = modules[0].unpack
        return step

    def _target(self, statement: OperatorStep, bases: Bases) -> list[str]:
        """The further arguments in the call of an int8 layer: the quantizer of its result, if any."""
        target = self.context.integer_layers.output_quantizers.get(statement)
        if target is None:
            return []
        assert target.quantize.member is not None, "modules with buffers have names"
        return [
            self.draft.access(target.quantize.member.name, bases),
            *(["relu=True"] if target.relu else []),
        ]

    def _anonymous(self, wanted: str, text: str) -> str:
        """The member for a layer without name and weights; layers with equal constructors share one."""
        if text not in self.anonymous:
            name = PythonNames([*self.draft.arguments.members, *self.draft.arguments.kept.values()]).take(wanted)
            self.draft.arguments.members.add(name)
            self.anonymous[text] = name
        return self.anonymous[text]

    def _step(
        self, statement: OperatorStep | BlockStep, spell: Callable[[Sequence[str]], str], layer: bool, name: str
    ) -> Step:
        operands = tuple(self.draft.resolved(local) for local in statement.operands)
        names: tuple[str, ...] = (name.rpartition(".")[2],)
        light = statement in self.context.integer_layers.quantizers
        if light:
            names = ("quantized",)
        elif isinstance(statement, OperatorStep) and len(statement.results) > 1:
            node = statement.nodes[0]
            names = tuple(pattern.name for pattern in node.op.signature_for(node.types).results)
        return Step(operands, statement.results, spell, layer, names, light)

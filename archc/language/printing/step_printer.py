"""Syntax of single statements: chain steps, formulas, and declarations of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

from archc.codegen.outline.definitions import BlockDefinition, BlockStep, Loop, OperatorStep
from archc.declaration.base import formula_of
from archc.declaration.notation import FormulaKind
from archc.declaration.table import snake_case
from archc.frozen_dataclass import frozen_by_identity
from archc.language.printing import syntax_nodes
from archc.language.printing.parameterization import Parameters, flat, innermost, is_declared
from archc.language.printing.syntax_nodes import NOWHERE
from archc.language.syntax import tree
from archc.types.storage import Dense, Weight

Step = OperatorStep | BlockStep
"""Statement of an outlined program, except loops and scans."""

Form = Literal["step"] | FormulaKind
"""Syntax of a statement: a chain step, or a kind of formula."""


def form(step: Step) -> Form:
    """Form of a statement, for example of `x -> relu`, `a + b`, `-a` or `x[:, 0]`."""
    if isinstance(step, BlockStep) or step.member is not None:
        return "step"
    return formula_of(step.nodes[0].op) or "step"


@frozen_by_identity
class Column:
    """One statement in all iterations of a loop, where iteration i applies the layer `l[i]` of a list."""

    loop: Loop
    steps: tuple[Step, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers, by iteration."""
        return tuple(step.member.name for step in self.steps if step.member is not None)


def columns_of(loop: Loop) -> Iterator[Column]:
    """Statements of a loop that apply a different layer in each iteration."""
    for steps in zip(*map(flat, loop.iterations), strict=True):
        column = Column(loop, steps)
        if len(set(column.names)) == len(steps):
            yield column


class StepPrinter:
    """Syntax of the statements of one definition, with a record of named and declared layers.

    Args:
        weights: weights of the graph, by path.
        names: printed names of the definitions.
        first_attributes: for each definition, a list with its first attribute; empty if it has no attributes.
        emit: function that adds a declaration before the current statement.
        header: function that returns the variable and the range of a loop.  If the loop indexes lists of values, the
            first call for the loop also adds their `let` statements, such as `let widths = [64, 128]`.
    """

    def __init__(
        self,
        definition: BlockDefinition,
        parameters: Parameters,
        weights: Mapping[str, Weight],
        names: Mapping[BlockDefinition, str],
        first_attributes: Mapping[BlockDefinition, list[str]],
        emit: Callable[[tree.LayerStatement | tree.For], None],
        header: Callable[[Loop], tuple[tree.Name, tree.RangeExpression]],
    ):
        self.parameters, self.weights, self.names = parameters, weights, names
        self.emit, self.header = emit, header
        self.first_attributes = first_attributes
        self.ties = {tie.weight: tie.source for tie in definition.ties}
        self.owners: dict[str, Step] = {}
        self.counterparts: dict[Step, Step] = {}
        self.labels: set[str] = set()
        self.lists: set[str] = set()
        self.counts: dict[str, int] = {}
        self.declared: set[str] = set()
        self.columns: dict[str, Column] = {}  # for each layer, the longest column that applies it
        for statement in innermost(definition.body):
            for column in columns_of(statement) if isinstance(statement, Loop) else ():
                for name in column.names:
                    if name not in self.columns or len(self.columns[name].steps) < len(column.steps):
                        self.columns[name] = column
            bodies = map(flat, statement.iterations) if isinstance(statement, Loop) else ((statement,),)
            for step in (step for body in bodies for step in body):
                if step.member is not None:
                    self.owners.setdefault(step.member.name, step)

    @property
    def declarable(self) -> set[str]:
        """First parts of the paths of layers that may be declared."""
        declared = {name for name, step in self.owners.items() if is_declared(step)}
        sources = {source.rpartition(".")[0] for source in self.ties.values()}
        return {path.partition(".")[0] for path in (*declared, *sources)}

    # Loops ------------------------------------------------------------------------------------------------

    def enter(self, loop: Loop) -> None:
        """Begin the first iteration of a loop, which represents all iterations; declare the shared layers."""
        for step, other in zip(flat(loop.iterations[0]), flat(loop.iterations[1]), strict=True):
            self.counterparts[step] = other
            if step.member is not None and other.member is not None:
                if step.member.shared and step.member.name == other.member.name:
                    self._declare(step)
                for parameter, source in self._tied(step).items():
                    if source == self._tied(other)[parameter]:
                        self._need(source, step)
        for column in columns_of(loop):
            shared = any(step.member is not None and step.member.shared for step in column.steps)
            if shared or not self.declared.isdisjoint(column.names):
                self._declare_all(column)

    def leave(self, loop: Loop) -> None:
        """End a loop: register the layers of the other iterations."""
        for iteration in loop.iterations[1:]:
            for step in flat(iteration):
                if step.member is not None:
                    self._register(step.member.name)

    # Writing ----------------------------------------------------------------------------------------------

    def chain_step(self, step: Step) -> tree.ChainStep:
        """Chain step of a statement: `label: operator(arguments)`, or the name of a declared layer."""
        if self._is_declared(step):
            return tree.ChainStep(NOWHERE, None, syntax_nodes.reference(self._parts(step)), (), False)
        label = None
        if step.member is not None and not self._named_by_itself(step):
            label = syntax_nodes.label(self._parts(step))
            self._register(step.member.name)
        callee, arguments = self._call(step)
        # If a declared layer has the name of the operator, `name()` is the operator and `name` is the layer.
        return tree.ChainStep(NOWHERE, label, callee, arguments, bool(arguments) or callee.name in self.declared)

    def source(self, step: Step) -> tree.Expression:
        """Syntax of a statement without operands, as the source of a chain: `arange(T)`."""
        if step.member is not None and not self._is_declared(step) and not self._named_by_itself(step):
            self._declare(step)
        if self._is_declared(step):
            return tree.Call(NOWHERE, syntax_nodes.reference(self._parts(step)), ())
        return tree.Call(NOWHERE, *self._call(step))

    def formula(self, step: OperatorStep, kind: Form, operands: Sequence[tree.Expression]) -> tree.Expression:
        """Formula of a statement: `a + b`, `x * 0.5`, `-a` or `x[:, 0]`."""
        op = self.parameters.operator(step)
        if kind == "index":
            return tree.IndexExpression(NOWHERE, operands[0], syntax_nodes.index_items(op))
        if kind == "unary":
            return tree.UnaryExpression(NOWHERE, op.symbol, operands[0])
        waiting = iter(operands)
        varying = next(iter(self.parameters.given[step].values()), None)  # only the number of a formula can vary
        left, right = (
            next(waiting) if number is None else varying or syntax_nodes.value(number) for number in op.sides() or ()
        )
        return tree.BinaryExpression(NOWHERE, op.symbol, left, right)

    def _call(self, step: Step, own_weight: str | None = None) -> tuple[tree.Name, tuple[tree.Argument, ...]]:
        """Callee and arguments of a statement.

        Args:
            own_weight: path of a tied weight that gets no argument such as `weight = encode.weight`.  If a pass has
                removed the layer that owned the weight, `_need` declares a new layer with the callee and arguments
                that this method returns.  The new layer owns the weight.
        """
        given = self.parameters.given[step]
        if isinstance(step, BlockStep):
            # `Attention(causal = true)` is clearer than `Attention(true)`.
            flags = any(isinstance(value, tree.Boolean) for value in given.values())
            alone = [*given] == self.first_attributes[step.definition] and not flags
            arguments = [tree.Argument(NOWHERE, None if alone else name, value) for name, value in given.items()]
            return syntax_nodes.name(self.names[step.definition]), tuple(arguments)
        node = step.nodes[0]
        arguments = syntax_nodes.arguments(self.parameters.operator(step), given)
        tied = self._tied(step)
        for parameter, path in node.weights.items():
            if parameter in tied and tied[parameter] != own_weight:
                arguments.append(tree.Argument(NOWHERE, parameter, self._tie(step, parameter, tied[parameter])))
            elif self.weights[path].storage != Dense():
                arguments.append(tree.Argument(NOWHERE, parameter, syntax_nodes.storage(self.weights[path].storage)))
        return syntax_nodes.name(node.op.name), tuple(arguments)

    # Layers -----------------------------------------------------------------------------------------------

    def _parts(self, step: Step) -> list[syntax_nodes.Part]:
        """Parts of the path of a layer; the loop's variable replaces the parts that differ between iterations."""
        assert step.member is not None
        other = self.counterparts.get(step)
        counterpart = other.member.name if other is not None and other.member is not None else None
        return syntax_nodes.parts(step.member.name, counterpart, self.parameters.variable)

    def _is_declared(self, step: Step) -> bool:
        """Return whether a layer is declared; a shared layer without a declaration is declared now."""
        if step.member is None:
            return False
        if step.member.shared and step.member.name not in self.declared:
            self._declare(step)
        return step.member.name in self.declared

    def _declare(self, step: Step) -> None:
        """Declare a layer, or all layers of its list."""
        assert step.member is not None
        if step.member.name in self.declared:
            return
        if step.member.name in self.columns:
            self._declare_all(self.columns[step.member.name])
            return
        self.declared.add(step.member.name)
        self._register(step.member.name)
        self._emit_layer(self._parts(step), *self._call(step))

    def _declare_all(self, column: Column) -> None:
        """Declare the layers of a list in a separate loop."""
        first = column.steps[0]
        longest = [self.columns[name] for name in column.names]
        if any(other is not column for other in longest):
            for other in dict.fromkeys(longest):
                if other is not column:
                    self._declare_all(other)
        missing = [number for number, name in enumerate(column.names) if name not in self.declared]
        if not missing:
            return
        variable, limits = self.header(column.loop)
        self.counterparts[first] = column.steps[1]
        callee, arguments = self._call(first)
        value = tree.Call(NOWHERE, callee, arguments) if arguments else callee
        layer = tree.LayerStatement(NOWHERE, syntax_nodes.label(self._parts(first)), value)
        for name in column.names:
            self.declared.add(name)
            self._register(name)
        for _, run in groupby(enumerate(missing), lambda item: item[1] - item[0]):
            numbers = [column.loop.first + number for _, number in run]
            some = tree.RangeExpression(NOWHERE, syntax_nodes.value(numbers[0]), syntax_nodes.value(numbers[-1] + 1))
            over = limits if len(numbers) == len(column.steps) else some
            self.emit(tree.For(NOWHERE, variable, over, (layer,)))

    def _emit_layer(
        self, path: list[syntax_nodes.Part], callee: tree.Name, arguments: tuple[tree.Argument, ...]
    ) -> None:
        """Add the declaration of a layer."""
        value = tree.Call(NOWHERE, callee, arguments) if arguments else callee
        self.emit(tree.LayerStatement(NOWHERE, syntax_nodes.label(path), value))

    def _register(self, name: str) -> None:
        """Record that a name of a layer is taken."""
        self.labels.add(name)
        head, _, rest = name.partition(".")
        if rest:
            self.lists.add(head)

    def _named_by_itself(self, step: Step) -> bool:
        """Return whether a layer gets its name even without a label; if so, register the name."""
        assert step.member is not None
        if isinstance(step, OperatorStep):
            if not step.nodes[0].op.parameters:
                return False
            base = step.nodes[0].op.name
        else:
            base = snake_case(self.names[step.definition])
        name, number = base, self.counts.get(base, 1)
        while name in self.labels or name in self.lists:
            number += 1
            name = f"{base}_{number}"
        if name != step.member.name:
            return False
        if number > 1:
            self.counts[base] = number
        self._register(name)
        return True

    # Shared weights ---------------------------------------------------------------------------------------

    def _tied(self, step: Step) -> dict[str, str]:
        """Parameters that share weights of other layers, each with the path of the weight in the definition."""
        if isinstance(step, BlockStep) or step.member is None:
            return {}
        ties = {parameter: self.ties.get(f"{step.member.name}.{parameter}") for parameter in step.nodes[0].weights}
        return {parameter: source for parameter, source in ties.items() if source is not None}

    def _tie(self, step: Step, parameter: str, source: str) -> tree.Expression:
        """Syntax of a tied weight: `wte.weight`, or `wte.weight.T` if it is transposed."""
        self._need(source, step)
        other = self.counterparts.get(step)
        counterpart = self._tied(other)[parameter] if other is not None else None
        weight = syntax_nodes.reference(syntax_nodes.parts(source, counterpart, self.parameters.variable))
        return tree.MemberExpression(NOWHERE, weight, "T") if _is_transposed(step, parameter) else weight

    def _need(self, source: str, user: Step) -> None:
        """Declare the layer that owns a tied weight, unless the layer is already named."""
        owner, _, _ = source.rpartition(".")
        if owner in self.labels:
            return
        if owner in self.owners:
            self._declare(self.owners[owner])
        else:  # a pass removed the owner: declare an unused layer under the path of the owner
            self._register(owner)
            self._emit_layer(syntax_nodes.parts(owner), *self._call(user, own_weight=source))


def _is_transposed(step: Step, parameter: str) -> bool:
    """Return whether a parameter uses the transpose of its weight."""
    return isinstance(step, OperatorStep) and parameter in step.nodes[0].transposed

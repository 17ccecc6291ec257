"""Parameterization of printed blocks: attributes for sizes and for values that vary between instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import digits
from typing import Any

from archc.codegen.outline.argument_names import (
    MODEL_PREFIX,
    block_sizes,
    has_other_values,
    has_values,
    instance_with_default,
    operator_with_block_sizes,
    parameter_name,
    position_in_text,
    same_value,
    with_block_sizes,
    with_renamed_sizes,
)
from archc.codegen.outline.definitions import (
    BlockDefinition,
    BlockStep,
    Loop,
    OperatorStep,
    Outline,
    Recurrence,
    Statement,
)
from archc.codegen.outline.derived_values import NamedValues, Term, formula_of
from archc.codegen.outline.loops import unroll
from archc.declaration.base import Operator
from archc.language.printing import syntax_nodes
from archc.language.syntax import tree
from archc.types.attributes import attributes
from archc.types.dims import SymbolicDim, symbol, symbols

_ON_ONE_LINE = 4  # maximum number of attributes with which the use of a block usually fits on one line

Row = Sequence[Any]
"""One value for each instance of a definition."""


@dataclass(eq=False)
class Parameters:
    """Attributes of one printed definition.

    Attributes:
        values: for each attribute, its value in each instance; attributes with defaults come last.
        defaults: defaults of attributes.
        given: for each statement, expressions by attribute.  For an operator, only attributes that are not literals
            have an entry.  For a block, only attributes that differ from their defaults have an entry.
        lists: for each loop, its lists by name; each list has one value for each iteration.
        ends: for each loop, the exclusive end of its range.
        variable: name of the loop variable.
        sizes: for each size with a name in the types of the inputs, its value in each instance.  If the name of a size
            would hide another name in the body, the inputs are printed without types, and `sizes` is None.
        operators: for each statement with attributes that refer to sizes, its operator with these sizes named as in the
            definition.
    """

    values: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    given: dict[OperatorStep | BlockStep, dict[str, tree.Expression]] = field(default_factory=dict)
    lists: dict[Loop, dict[str, list[Any]]] = field(default_factory=dict)
    ends: dict[Loop, tree.Expression] = field(default_factory=dict)
    variable: str = "i"
    sizes: Mapping[str, tuple[Any, ...]] | None = None
    operators: dict[OperatorStep, Operator] = field(default_factory=dict)

    def operator(self, step: OperatorStep) -> Operator:
        """Operator of a statement, with sizes named as in the definition."""
        return self.operators.get(step, step.nodes[0].op)


def parameterize(program: Outline, reserved: frozenset[str]) -> dict[BlockDefinition, Parameters]:
    """Attributes of every definition of a program; no attribute has a name in `reserved`."""
    found: dict[BlockDefinition, Parameters] = {}
    for definition in program.definitions:
        found[definition] = _Parameterizer(definition, found, reserved).run()
    return found


class _Parameterizer:
    """Parameterization of one definition; `inner` has the attributes of the definitions in its body."""

    def __init__(
        self, definition: BlockDefinition, inner: Mapping[BlockDefinition, Parameters], reserved: frozenset[str]
    ):
        self.definition, self.inner, self.reserved = definition, inner, reserved
        self.found = Parameters()
        self.taken = set(_declarable(definition))
        self.size_names: dict[str, str] = {}

    def run(self) -> Parameters:
        """Attributes of the definition."""
        unroll(self.definition, self._lengthy_loops())
        mentioned = self._mentioned()
        if self._can_name_sizes(mentioned):
            self.found.sizes = self.definition.sizes
            self.taken |= self.found.sizes.keys()
        handed = self._name_sizes(mentioned)
        self.found.variable = self._free("i")
        for steps, loop in self._statements():
            if loop is not None and loop not in self.found.ends:
                self.found.ends[loop] = self._end(loop)
            self._step(steps, loop)
        self.found.values |= handed
        for name, values in self.found.values.items():
            instance = instance_with_default(self.definition, name, values)
            if instance is not None:
                self.found.defaults[name] = values[instance]
        order = {
            name: (name in self.found.defaults, position_in_text(self.definition, name)) for name in self.found.values
        }
        in_order = sorted(order, key=lambda name: order[name])
        self.found.values = {name: self.found.values[name] for name in in_order}
        return self.found

    def _lengthy_loops(self) -> set[Loop]:
        """Loops that would not be shorter than their unrolled statements, because of their lists of values."""
        lists: Counter[Loop] = Counter()
        lines: Counter[Loop] = Counter()
        for steps, loop in self._statements():
            if loop is None or any(count != loop.count for count in loop.counts):
                continue
            given = 0
            for name, rows, _ in self._attributes(steps):
                if not all(same_value(list(row), list(rows[0])) for row in rows):
                    # A list that differs between instances counts as 3 lines: each use of the block has its own list.
                    lists[loop] += 1 if all(same_value(list(row), [row[0]] * len(row)) for row in rows) else 3
                use = steps[0]
                given += isinstance(use, BlockStep) and not self._is_default(use, name, rows[0][0])
            lines[loop] += 1 if given <= _ON_ONE_LINE else given + 2
        return {loop for loop in lines if lists[loop] and 1 + lists[loop] + lines[loop] >= loop.count * lines[loop]}

    def _statements(self) -> Iterable[tuple[Sequence[OperatorStep | BlockStep], Loop | None]]:
        """Yield a pair (steps, loop) for each statement of the printed text.

        Outside a loop, `steps` has one statement of the outline, and `loop` is None.  Inside a loop, `steps` has one
        statement from each iteration, because the text has the body of the loop only once.
        """
        for statement in innermost(self.definition.body):
            if isinstance(statement, Loop):
                yield from ((steps, statement) for steps in zip(*map(flat, statement.iterations)))
            else:
                yield (statement,), None

    # Sizes ------------------------------------------------------------------------------------------------

    def _mentioned(self) -> dict[str, SymbolicDim]:
        """Sizes in attributes, by their names in the definition; see `archc.codegen.outline.argument_names`."""
        found: dict[str, SymbolicDim] = {}
        for steps, _ in self._statements():
            for _, rows, _ in self._attributes(steps):
                _note_sizes(rows[0][0], found)
        return found

    def _can_name_sizes(self, mentioned: Mapping[str, SymbolicDim]) -> bool:
        """Return whether the names of sizes in the types of the inputs have no other meaning in the body."""
        scopes = self.definition.scopes
        return all(
            name not in self.taken
            and (name not in mentioned or all(value == s.sizes.get(name) for value, s in zip(values, scopes)))
            for name, values in self.definition.sizes.items()
        )

    def _name_sizes(self, mentioned: Mapping[str, SymbolicDim]) -> dict[str, tuple[Any, ...]]:
        """Name the sizes of the body; return new attributes for sizes that the input types do not name."""
        scopes = self.definition.scopes
        if scopes[0].parent is None:  # the model's inputs declare its sizes
            self.taken |= mentioned.keys()
            return {}
        handed: dict[str, tuple[Any, ...]] = {}
        for name, size in sorted(mentioned.items(), key=lambda item: item[0].startswith(MODEL_PREFIX)):
            of_model = name.removeprefix(MODEL_PREFIX)
            if name == of_model and self.found.sizes is not None and name in self.found.sizes:
                continue
            chosen = self._free(f"{of_model}_size") if of_model in self.taken else of_model
            self.taken.add(chosen)
            self.size_names[name] = chosen
            handed[chosen] = tuple(size if name != of_model else block_sizes(scope)[name] for scope in scopes)
        return handed

    def _in_own_sizes(self, value: Any, instance: int) -> Any:
        """Value in an instance, with sizes named as in the definition."""
        scope = self.definition.scopes[instance]
        if scope.parent is None:
            return value
        return with_renamed_sizes(with_block_sizes(value, block_sizes(scope)), self.size_names)

    def _end(self, loop: Loop) -> tree.Expression:
        """End of the range of a loop: a number, or an attribute if the end differs between instances."""
        ends = tuple(loop.first + count for count in loop.counts)
        if all(end == ends[0] for end in ends):
            return syntax_nodes.value(ends[0])
        return syntax_nodes.name(self._parameter("depth", loop.lists[0].rpartition(".")[2], ends))

    def _step(self, steps: Sequence[OperatorStep | BlockStep], loop: Loop | None) -> None:
        """Parameterize one statement of the printed text; see `_statements`."""
        first = steps[0]
        if loop is not None:
            self.found.lists.setdefault(loop, {})
        given = self.found.given[first] = {}
        if isinstance(first, OperatorStep):
            scope = self.definition.scopes[0]
            op = first.nodes[0].op
            own = (
                op
                if scope.parent is None
                else with_renamed_sizes(operator_with_block_sizes(op, block_sizes(scope)), self.size_names)
            )
            if own is not op:
                self.found.operators[first] = own
        for name, rows, values in self._attributes(steps):
            if all(value == rows[0][0] for row in rows for value in row):
                is_default = isinstance(first, BlockStep) and all(
                    self._is_default(first, name, value) for row in values for value in row
                )
                if isinstance(first, BlockStep) and not is_default:
                    given[name] = syntax_nodes.value(rows[0][0])
            else:
                given[name] = self._expression(name, _prefix(first), rows, values, loop)

    def _is_default(self, use: BlockStep, name: str, value: Any) -> bool:
        """Return whether a value is the default of a block's attribute."""
        defaults = self.inner[use.definition].defaults
        return name in defaults and same_value(defaults[name], value)

    def _attributes(self, steps: Sequence[OperatorStep | BlockStep]) -> Iterable[tuple[str, list[Row], list[Row]]]:
        """Attributes of a statement, each with two tables of values by iteration and instance.

        In the first table, sizes are named as in the definition.  The second table has the original values.
        """
        for name, values in self._values(steps):
            yield name, [[self._in_own_sizes(value, k) for k, value in enumerate(row)] for row in values], values

    def _values(self, steps: Sequence[OperatorStep | BlockStep]) -> Iterable[tuple[str, list[Row]]]:
        """Attributes of a statement, each with its values by iteration and instance."""
        first = steps[0]
        if isinstance(first, OperatorStep):
            for info in attributes(type(first.nodes[0].op)):
                yield (
                    info.name,
                    [[info.of(node.op) for node in s.nodes] for s in steps if isinstance(s, OperatorStep)],
                )
            return
        for name, values in self.inner[first.definition].values.items():
            yield name, [[values[instance] for instance in s.instances] for s in steps if isinstance(s, BlockStep)]

    def _expression(
        self, name: str, prefix: str, rows: list[Row], values: list[Row], loop: Loop | None
    ) -> tree.Expression:
        """Expression for an attribute that may vary, or whose items may vary if it is a tuple."""
        if all(value == rows[0][0] for row in rows for value in row):
            return syntax_nodes.value(rows[0][0])
        if not self._has_separate_items(name, values):
            return self._varying(name, prefix, values, loop)
        items = (
            self._expression(name, prefix, _column(rows, k), _column(values, k), loop) for k in range(len(rows[0][0]))
        )
        return tree.Tuple(syntax_nodes.NOWHERE, tuple(items))

    def _varying(self, name: str, prefix: str, rows: list[Row], loop: Loop | None) -> tree.Expression:
        """Expression for an attribute that varies: an attribute of the block, or an element of a list."""
        if all(list(row) == list(rows[0]) for row in rows):
            return self._formula(name, tuple(rows[0])) or syntax_nodes.name(
                self._parameter(name, prefix, tuple(rows[0]))
            )
        assert loop is not None, "without a loop there is one row"
        plural = name if name.endswith("s") else f"{name}_list" if name.endswith(("ed", *digits)) else f"{name}s"
        columns = [list(column[:count]) for column, count in zip(zip(*rows), loop.counts)]
        if all(column == columns[0] for column in columns):
            lists = self.found.lists[loop]
            found = next((own for own, values in lists.items() if same_value(values, columns[0])), None)
            if found is None:
                found = self._free(plural, f"{prefix}_{plural}")
                lists[found] = columns[0]
        else:
            found = self._parameter(plural, prefix, tuple(columns))
        number: tree.Expression = syntax_nodes.name(self.found.variable)
        if loop.first:
            number = tree.BinaryExpression(syntax_nodes.NOWHERE, "-", number, syntax_nodes.value(loop.first))
        return tree.IndexExpression(syntax_nodes.NOWHERE, syntax_nodes.name(found), (number,))

    def _has_separate_items(self, name: str, rows: list[Row]) -> bool:
        """Return whether each item of a tuple that varies has its own expression.

        This is so if a tuple has symbolic sizes, or if at most one item has values without a name in the block:
        `reshape((N, width, 1))`, but `conv2d(8, kernel_size)` for the sizes (1, 7) and (7, 1).
        """
        tuples = [value for row in rows for value in row]
        if not all(isinstance(value, tuple) and len(value) == len(tuples[0]) for value in tuples):
            return False
        if any(isinstance(item, SymbolicDim) for value in tuples for item in value):
            return True
        if len(rows) == 1 and has_values(self.definition, parameter_name(self.definition, rows[0], name), rows[0]):
            return False
        return sum(not self._is_known(_column(rows, k)) for k in range(len(tuples[0]))) <= 1

    def _is_known(self, rows: list[Row]) -> bool:
        """Return whether values are equal, or if the block has a name or a formula for them."""
        values = rows[0]
        if not all(same_value(list(row), list(values)) for row in rows):
            return False
        if all(same_value(value, values[0]) for value in values):
            return True
        named = has_values(self.definition, parameter_name(self.definition, values, ""), values)
        return named or formula_of(self.definition, values) is not None

    def _formula(self, wanted: str, values: Row) -> tree.Expression | None:
        """Formula of other attributes, such as `4 * channels` or `channels // 2`.

        None if no formula has the values, or if an attribute has exactly these values.
        """
        if has_values(self.definition, parameter_name(self.definition, values, wanted), values):
            return None
        formula = formula_of(self.definition, values)
        if formula is None:
            return None
        if self.found.sizes is None and not self.definition.sizes.keys().isdisjoint(formula.names):
            return None
        left, right = self._term(formula.left), self._term(formula.right)
        return tree.BinaryExpression(syntax_nodes.NOWHERE, formula.operator, left, right)

    def _term(self, term: Term) -> tree.Expression:
        if isinstance(term, NamedValues):
            return syntax_nodes.name(self._parameter(term.name, "", term.values))
        return syntax_nodes.value(term)

    def _parameter(self, name: str, prefix: str, values: tuple[Any, ...]) -> str:
        """Name of the attribute or size with the given values; adds an attribute if there is no such name."""
        # Attributes with equal values in every instance become one attribute, even if the source has several.
        for known, own in self.found.values.items():
            if same_value(own, values):
                return known
        chosen = parameter_name(self.definition, values, name)
        if self.found.sizes is not None and same_value(self.found.sizes.get(chosen), values):
            return chosen
        misleading = has_other_values(self.definition, chosen, values)
        chosen = self._free(*([] if misleading else [chosen]), f"{prefix}_{name}")
        self.found.values[chosen] = values
        return chosen

    def _free(self, *candidates: str) -> str:
        """First free name among the candidates, or the last candidate with a number; marks the name as taken."""
        possible = [name for name in candidates if not name.startswith("_") and not name[:1].isdigit()]
        possible += [f"{possible[-1] if possible else 'value'}_{number}" for number in range(2, len(self.taken) + 4)]
        free = (name for name in possible if name not in self.taken and name not in self.reserved)
        name = next(free)
        self.taken.add(name)
        return name


def _prefix(step: OperatorStep | BlockStep) -> str:
    """Prefix of names for attributes of a statement: the name of its layer, or of its operator."""
    if step.member is None:
        return step.nodes[0].op.name if isinstance(step, OperatorStep) else ""
    return next((part for part in reversed(step.member.name.split(".")) if not part.isdecimal()), "")


def _column(rows: list[Row], k: int) -> list[Row]:
    """The table of item k of the tuples in a table."""
    return [[value[k] for value in row] for row in rows]


def _note_sizes(value: Any, found: dict[str, SymbolicDim]) -> None:
    """Add the symbols in a value to `found`, by name.

    The keys of `found` keep `MODEL_PREFIX`; the names of its symbols do not.
    """
    if isinstance(value, SymbolicDim):
        for own in symbols(value).values():
            found.setdefault(own.name, symbol(own.name.removeprefix(MODEL_PREFIX), own.maximum))
    elif isinstance(value, (tuple, list)):
        for item in value:
            _note_sizes(item, found)
    elif isinstance(value, Mapping):
        for item in value.values():
            _note_sizes(item, found)


def innermost(body: Iterable[Statement]) -> Iterator[OperatorStep | BlockStep | Loop]:
    """Statements of a body; a scan is replaced by the statements in it."""
    for statement in body:
        if isinstance(statement, Recurrence):
            yield from innermost(statement.body)
        else:
            yield statement


def flat(iteration: Iterable[Statement]) -> Iterator[OperatorStep | BlockStep]:
    """Statements of an iteration of a loop; a scan is replaced by the statements in it."""
    for statement in innermost(iteration):
        assert not isinstance(statement, Loop), "loops do not nest"
        yield statement


def is_declared(step: OperatorStep | BlockStep) -> bool:
    """Return whether a layer needs a declaration: a layer with several uses, or a block without operands."""
    return step.member is not None and (step.member.shared or (isinstance(step, BlockStep) and not step.operands))


def _declarable(definition: BlockDefinition) -> Iterable[str]:
    """First parts of the paths of declared layers, and of layers with weights that other layers share."""
    for statement in innermost(definition.body):
        for step in flat(statement.iterations[0]) if isinstance(statement, Loop) else (statement,):
            if step.member is not None and is_declared(step):
                yield step.member.name.partition(".")[0]
    for tie in definition.ties:
        yield tie.source.partition(".")[0]

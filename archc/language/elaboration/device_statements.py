"""`devices` statements, such as `devices box { a = cuda(0)  b = cuda(1)  link a <-> b = 50GB/s }`."""

from __future__ import annotations

from typing import NoReturn

from archc.analysis.devices import KINDS, Device, Devices
from archc.diagnostics import Diagnostics, Note, Span, did_you_mean
from archc.language.elaboration.modules import Module
from archc.language.syntax import tree
from archc.language.syntax.literals import measure, quantity
from archc.types.attributes import AttributeProblem, bind

_MEASURES = {"memory": "bytes", "bandwidth": "bytes a second", "speed": "a number", "index": "a number"}
_EXAMPLES = {"bytes": "24GB", "bytes a second": "50GB/s", "a number": "100T"}


class _ItemFailed(Exception):
    """Failure of one item of a `devices` statement, already reported."""


def devices_of(module: Module, diagnostics: Diagnostics) -> dict[str, Devices]:
    """Devices of each `devices` statement of a file, by name; wrong items are reported and left out."""
    return {name: _StatementReader(item, diagnostics).read() for name, item in module.devices.items()}


class _StatementReader:
    def __init__(self, item: tree.DevicesStatement, diagnostics: Diagnostics):
        self._item, self._diagnostics = item, diagnostics
        self._members: dict[str, Device] = {}
        self._links: dict[frozenset[str], float] = {}
        # `_places` also contains devices with errors: otherwise, each link to such a device would be reported as a link
        # to an unknown device.
        self._places: dict[str, Span] = {}
        # `_linked` also contains links with errors: a second link between the same devices is reported as a duplicate.
        self._linked: dict[frozenset[str], Span] = {}

    def read(self) -> Devices:
        for item in self._item.items:
            try:
                if isinstance(item, tree.Assign):
                    self._add_device(item)
            except _ItemFailed:
                continue
        for item in self._item.items:
            try:
                if isinstance(item, tree.LinkStatement):
                    self._add_link(item)
            except _ItemFailed:
                continue
        if not self._item.items:
            self._diagnostics.error(
                "no-devices",
                f"`{self._item.name.name}` has no devices",
                self._item.name.span,
                help="add a device, such as `a = cuda(0)`",
            )
        return Devices(self._item.name.name, self._members, self._links)

    def _fail(
        self, code: str, message: str, span: Span, notes: tuple[Note, ...] = (), help: str | None = None
    ) -> NoReturn:
        self._diagnostics.error(code, message, span, notes, help)
        raise _ItemFailed

    # Devices ----------------------------------------------------------------------------------------------

    def _add_device(self, item: tree.Assign) -> None:
        (name,) = item.targets
        earlier = self._places.setdefault(name.name, name.span)
        if earlier is not name.span:
            self._fail(
                "duplicate-name",
                f"two devices are called `{name.name}`",
                name.span,
                (Note("this is the first", earlier),),
                "give one of them another name",
            )
        device = self._parse_device(item.value)
        same = next((other for other, own in self._members.items() if own.numbered and own.torch == device.torch), None)
        if same is not None:
            self._fail(
                "duplicate-device",
                f"`{same}` and `{name.name}` are the same device",
                item.value.span,
                help="remove one of them: its memory would count twice",
            )
        self._members[name.name] = device

    def _parse_device(self, value: tree.Expression) -> Device:
        callee = value.callee if isinstance(value, tree.Call) else value
        if not isinstance(callee, tree.Name) or callee.name not in KINDS:
            kinds = " or ".join(f"`{kind}`" for kind in KINDS)
            mistyped = did_you_mean(callee.name, KINDS) if isinstance(callee, tree.Name) else None
            what = f"unknown kind of device `{callee.name}`" if isinstance(callee, tree.Name) else "expected a device"
            self._fail("unknown-device-kind", what, callee.span, help=mistyped or f"write {kinds}, such as `cuda(0)`")
        cls = KINDS[callee.name]
        positional: list[int | float] = []
        named: dict[str, int | float] = {}
        spans: dict[str | int, Span] = {}
        for argument in value.arguments if isinstance(value, tree.Call) else ():
            key = argument.name if argument.name is not None else len(positional)
            spans[key] = argument.span
            option = argument.name or "index"
            number = self._number(argument.value, _MEASURES.get(option), 0 if option == "index" else None)
            if argument.name is None:
                positional.append(number)
            else:
                named[argument.name] = number
        try:
            return bind(cls, f"`{callee.name}`", positional, named, "option")
        except AttributeProblem as problem:
            where = spans.get(problem.argument) if problem.argument is not None else None
            self._fail(problem.code, problem.message, where or value.span, help=problem.help)

    # Links ------------------------------------------------------------------------------------------------

    def _add_link(self, item: tree.LinkStatement) -> None:
        for end in (item.left, item.right):
            if end.name not in self._places:
                known = ", ".join(f"`{name}`" for name in self._places) or "none"
                self._fail(
                    "unknown-device",
                    f"`{self._item.name.name}` has no device `{end.name}`",
                    end.span,
                    help=did_you_mean(end.name, self._places) or f"its devices are {known}",
                )
        pair = frozenset((item.left.name, item.right.name))
        if len(pair) == 1:
            self._fail("bad-link", f"`{item.left.name}` is linked to itself", item.right.span, help="link two devices")
        if pair in self._linked:
            self._fail(
                "duplicate-link",
                f"`{item.left.name}` and `{item.right.name}` are linked twice",
                item.span,
                (Note("this is the first link", self._linked[pair]),),
                "remove one of them: a link has both directions",
            )
        self._linked[pair] = item.span
        self._links[pair] = self._number(item.value, "bytes a second")

    def _number(
        self, value: tree.Expression | tree.SliceExpression, wanted: str | None, least: int | None = None
    ) -> int | float:
        """Value of a number literal in its base unit.

        Args:
            wanted: the expected measure, a key of `_EXAMPLES`; None to accept any measure.
            least: the smallest accepted number; None to accept every number above 0.
        """
        example = _EXAMPLES.get(wanted or "", "100")
        if not isinstance(value, tree.Number):
            self._fail("wrong-type", "expected a number", value.span, help=f"write a literal such as `{example}`")
        if wanted is not None and measure(value) != wanted:
            got = "a number without a unit" if value.unit is None else measure(value)
            message = f"expected {wanted}, got {got}"
            self._fail("bad-unit", message, value.span, help=f"write a number such as `{example}`")
        number = quantity(value)
        if number <= 0 if least is None else number < least:
            self._fail("bad-quantity", f"`{value.span.text}` is too small", value.span)
        return number

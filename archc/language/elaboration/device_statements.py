"""`devices box { a = cuda(0)  b = cuda(1)  link a <-> b = 50GB/s }`: from the text to what a machine is."""

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


class _Mistaken(Exception):
    """An item of a `devices` that is wrong; that was reported."""


def devices_of(module: Module, diagnostics: Diagnostics) -> dict[str, Devices]:
    """The machines that a file describes, by name; mistakes are reported, and leave out what they spoil."""
    return {name: _Reader(item, diagnostics).read() for name, item in module.devices.items()}


class _Reader:
    def __init__(self, item: tree.DevicesStatement, diagnostics: Diagnostics):
        self._item, self._diagnostics = item, diagnostics
        self._members: dict[str, Device] = {}
        self._links: dict[frozenset[str], float] = {}
        # Devices and links by name, those that are wrong as well: nothing that names one is wrong for that.
        self._places: dict[str, Span] = {}
        self._linked: dict[frozenset[str], Span] = {}

    def read(self) -> Devices:
        for item in self._item.items:
            try:
                if isinstance(item, tree.Assign):
                    self._device(item)
            except _Mistaken:
                continue
        for item in self._item.items:
            try:
                if isinstance(item, tree.LinkStatement):
                    self._link(item)
            except _Mistaken:
                continue
        if not self._item.items:
            self._diagnostics.error(
                "no-devices",
                f"`{self._item.name.name}` has no devices",
                self._item.name.span,
                help="write, for instance, `a = cuda(0)`",
            )
        return Devices(self._item.name.name, self._members, self._links)

    def _fail(
        self, code: str, message: str, span: Span, notes: tuple[Note, ...] = (), help: str | None = None
    ) -> NoReturn:
        self._diagnostics.error(code, message, span, notes, help)
        raise _Mistaken

    # Devices ----------------------------------------------------------------------------------------------

    def _device(self, item: tree.Assign) -> None:
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
        device = self._made(item.value)
        same = next((other for other, own in self._members.items() if own.numbered and own.torch == device.torch), None)
        if same is not None:
            self._fail(
                "duplicate-device",
                f"`{same}` and `{name.name}` are the same device",
                item.value.span,
                help="its memory would count twice: name each device once",
            )
        self._members[name.name] = device

    def _made(self, value: tree.Expression) -> Device:
        callee = value.callee if isinstance(value, tree.Call) else value
        if not isinstance(callee, tree.Name) or callee.name not in KINDS:
            kinds = " or ".join(f"`{kind}`" for kind in KINDS)
            mistyped = did_you_mean(callee.name, KINDS) if isinstance(callee, tree.Name) else None
            what = f"`{callee.name}` is no kind of device" if isinstance(callee, tree.Name) else "this is no device"
            self._fail("unknown-device-kind", what, callee.span, help=mistyped or f"a device is {kinds}: `cuda(0)`")
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

    def _link(self, item: tree.LinkStatement) -> None:
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
                "a link carries in both directions: keep one",
            )
        self._linked[pair] = item.span
        self._links[pair] = self._number(item.value, "bytes a second")

    def _number(
        self, value: tree.Expression | tree.SliceExpression, wanted: str | None, least: int | None = None
    ) -> int | float:
        """A number of what is wanted (None: of anything), in its base unit; above 0, or from `least`."""
        example = _EXAMPLES.get(wanted or "", "100")
        if not isinstance(value, tree.Number):
            self._fail("wrong-type", "a number is needed here", value.span, help=f"write a literal such as `{example}`")
        if wanted is not None and measure(value) != wanted:
            said = "has no unit" if value.unit is None else f"is {measure(value)}"
            message = f"{wanted} {'is' if wanted == 'a number' else 'are'} needed here, and `{value.span.text}` {said}"
            self._fail("bad-unit", message, value.span, help=f"write, for instance, `{example}`")
        number = quantity(value)
        if number <= 0 if least is None else number < least:
            self._fail("bad-quantity", f"`{value.span.text}` is too little to work with", value.span)
        return number

"""Devices that a model may be spread over: what each holds, how fast it is, and what links them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from archc.types.attributes import attribute
from archc.types.frozen_dataclass import frozen_dataclass

DEFAULT_LINK = 25e9
"""Bytes a second between two devices that no `link` names: what PCIe 4.0 x16 (32 GB/s) gives in practice."""


@frozen_dataclass
class Device:
    """A device; the fields are what a text may say of it."""

    kind: ClassVar[str] = ""
    numbered: ClassVar[bool] = False
    """Whether a machine has one device of each number.  Of processes on its processor there may be many."""

    memory: int | None = attribute(None, keyword=True, doc="the bytes that it holds; no limit where it is not given")
    speed: float = attribute(0.0, keyword=True, doc="multiply-adds a second")
    bandwidth: float = attribute(0.0, keyword=True, doc="bytes a second between its memory and its arithmetic")

    @property
    def torch(self) -> str:
        """What PyTorch calls it: `cpu`, `cuda:1`."""
        return self.kind

    @property
    def limit(self) -> float:
        """The bytes that it holds; infinite where nobody said."""
        return float("inf") if self.memory is None else self.memory


@frozen_dataclass
class Cpu(Device):
    """A process on the machine's processor.  By default that of a small server: 100 G multiply-adds, 20 GB a second."""

    kind: ClassVar[str] = "cpu"

    speed: float = attribute(100e9, keyword=True, doc="multiply-adds a second")
    bandwidth: float = attribute(20e9, keyword=True, doc="bytes a second between its memory and its arithmetic")


@frozen_dataclass
class Cuda(Device):
    """An NVIDIA GPU.  By default an A100 in f32: 9.75 T multiply-adds, 1,555 GB a second (NVIDIA's data sheet)."""

    kind: ClassVar[str] = "cuda"
    numbered: ClassVar[bool] = True

    speed: float = attribute(9.75e12, keyword=True, doc="multiply-adds a second")
    bandwidth: float = attribute(1555e9, keyword=True, doc="bytes a second between its memory and its arithmetic")
    index: int = attribute(0, doc="its number, from 0")

    @property
    def torch(self) -> str:
        return f"cuda:{self.index}"


KINDS: dict[str, type[Device]] = {"cpu": Cpu, "cuda": Cuda}
"""The kinds of devices by their names in the language."""


@frozen_dataclass
class StageDevice:
    """A device as a stage of a pipeline has it.

    Attributes:
        title: what to call it in a message; `named` tells whether a text names it.
        link: bytes a second to and from its neighbours in the pipeline.
    """

    title: str
    device: Device
    link: float = DEFAULT_LINK
    named: bool = False


@dataclass(frozen=True)
class Devices:
    """The devices of a machine, by name in the order of the text, and the links between them.

    Attributes:
        links: bytes a second between two of them, by the set of their names.
    """

    name: str
    members: Mapping[str, Device]
    links: Mapping[frozenset[str], float] = field(default_factory=dict)

    def link(self, one: str, other: str) -> float:
        """Bytes a second between two devices."""
        return self.links.get(frozenset((one, other)), DEFAULT_LINK)

    @property
    def alike_linked(self) -> bool:
        """Whether all links are equally fast, so that it does not matter who stands beside whom."""
        pairs = itertools.combinations(self.members, 2)
        return len({self.link(one, other) for one, other in pairs}) <= 1

    def places(self) -> tuple[StageDevice, ...]:
        """The devices as a chain in the order of the text; the slower link to a neighbour counts."""
        names = list(self.members)
        found = []
        for number, name in enumerate(names):
            beside = names[max(number - 1, 0) : number] + names[number + 1 : number + 2]
            link = min((self.link(name, other) for other in beside), default=DEFAULT_LINK)
            found.append(StageDevice(name, self.members[name], link, named=True))
        return tuple(found)

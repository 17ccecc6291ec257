"""Devices for pipeline stages, with memory and speed, and the links between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from archc.frozen_dataclass import frozen_dataclass
from archc.types.attributes import attribute

DEFAULT_LINK = 25e9
"""Bytes per second between two devices without a `link`.

This is the practical rate of PCIe 4.0 x16; the theoretical rate is 32 GB/s.
"""


@frozen_dataclass
class Device:
    """A device; the fields are its attributes in the language."""

    kind: ClassVar[str] = ""
    numbered: ClassVar[bool] = False
    """True if devices of this kind have an `index`; devices of kind `cpu` are processes, which have none."""

    memory: int | None = attribute(None, keyword=True, doc="bytes of memory; unlimited by default")
    speed: float = attribute(0.0, keyword=True, doc="multiply-adds per second")
    bandwidth: float = attribute(0.0, keyword=True, doc="bytes per second between memory and arithmetic")

    @property
    def torch(self) -> str:
        """Name in PyTorch: `cpu`, `cuda:1`."""
        return self.kind

    @property
    def limit(self) -> float:
        """Bytes of memory; infinite if `memory` is not given."""
        return float("inf") if self.memory is None else self.memory


@frozen_dataclass
class Cpu(Device):
    """A process on a CPU; the defaults are those of a small server.

    The defaults are 100 billion multiply-adds per second and 20 GB per second.
    """

    kind: ClassVar[str] = "cpu"

    speed: float = attribute(100e9, keyword=True, doc="multiply-adds per second")
    bandwidth: float = attribute(20e9, keyword=True, doc="bytes per second between memory and arithmetic")


@frozen_dataclass
class Cuda(Device):
    """An NVIDIA GPU; the defaults are those of an A100 in f32.

    The defaults are 9.75 trillion multiply-adds per second and 1,555 GB per second, from NVIDIA's data sheet.
    """

    kind: ClassVar[str] = "cuda"
    numbered: ClassVar[bool] = True

    speed: float = attribute(9.75e12, keyword=True, doc="multiply-adds per second")
    bandwidth: float = attribute(1555e9, keyword=True, doc="bytes per second between memory and arithmetic")
    index: int = attribute(0, doc="number of the GPU, from 0")

    @property
    def torch(self) -> str:
        return f"cuda:{self.index}"


KINDS: dict[str, type[Device]] = {"cpu": Cpu, "cuda": Cuda}
"""Kinds of devices by their names in the language."""


@frozen_dataclass
class StageDevice:
    """The device of a pipeline stage.

    Attributes:
        title: name in messages.
        device: the device with its memory and speed.
        link: bytes per second to and from the neighbouring stages.
        named: True if the text names the device.
    """

    title: str
    device: Device
    link: float = DEFAULT_LINK
    named: bool = False


@frozen_dataclass
class Devices:
    """A declaration `devices` of the language: the devices of a machine, and the links between them.

    Attributes:
        name: name of the declaration.
        members: devices by name, in the order of the text.
        links: bytes per second between two devices, by the set of their names.
    """

    name: str
    members: Mapping[str, Device]
    links: Mapping[frozenset[str], float] = field(default_factory=dict)

    def link(self, one: str, other: str) -> float:
        """Return the bytes per second between two devices."""
        return self.links.get(frozenset((one, other)), DEFAULT_LINK)

    @property
    def uniform_links(self) -> bool:
        """True if all links are equally fast, so that the order of the devices does not affect transfers."""
        pairs = itertools.combinations(self.members, 2)
        return len({self.link(one, other) for one, other in pairs}) <= 1

    def stage_devices(self) -> tuple[StageDevice, ...]:
        """Return the devices as a chain in text order.

        The `link` of a device is its slowest link to a neighbour in the chain.
        """
        names = list(self.members)
        found = []
        for number, name in enumerate(names):
            beside = names[max(number - 1, 0) : number] + names[number + 1 : number + 2]
            link = min((self.link(name, other) for other in beside), default=DEFAULT_LINK)
            found.append(StageDevice(name, self.members[name], link, named=True))
        return tuple(found)

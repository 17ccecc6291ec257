"""Devices: their names, defaults and links."""

from __future__ import annotations

import math

from archc.analysis.devices import DEFAULT_LINK, KINDS, Cpu, Cuda, Devices
from archc.types.attributes import attributes


def box(**links: float) -> Devices:
    members = {"a": Cuda(index=0), "b": Cuda(index=1), "c": Cpu()}
    return Devices("box", members, {frozenset(pair): speed for pair, speed in links.items()})


def test_pytorch_accepts_the_names_of_devices() -> None:
    import torch

    assert torch.device(Cpu().torch) == torch.device("cpu")
    assert torch.device(Cuda(index=3).torch) == torch.device("cuda", 3)


def test_memory_is_unlimited_by_default() -> None:
    assert Cpu().limit == math.inf
    assert Cpu(memory=5).limit == 5


def test_links_go_both_ways_and_have_a_default_speed() -> None:
    machine = box(ab=300e9)
    assert machine.link("a", "b") == machine.link("b", "a") == 300e9
    assert machine.link("a", "c") == DEFAULT_LINK


def test_the_slower_link_to_a_neighbour_counts() -> None:
    places = box(ab=300e9, bc=10e9, ac=1e9).stage_devices()
    assert [(place.title, place.link) for place in places] == [("a", 300e9), ("b", 10e9), ("c", 10e9)]
    assert all(place.named for place in places)


def test_links_of_equal_speed_are_uniform() -> None:
    assert box().uniform_links
    assert box(ab=5e9, bc=5e9, ac=5e9).uniform_links
    assert not box(ab=300e9).uniform_links


def test_every_kind_has_usable_defaults() -> None:
    for name, kind in KINDS.items():
        assert kind.kind == name
        assert kind().speed > 0 and kind().bandwidth > 0
        assert all(info.doc for info in attributes(kind))

"""`devices` statements: parsed devices, and mistakes."""

from __future__ import annotations

import pytest

from archc.analysis.devices import Cpu, Cuda, Devices
from archc.diagnostics import Diagnostics
from archc.driver.parsing import open_module
from archc.language.elaboration.device_statements import devices_of


def read(text: str) -> tuple[Devices, Diagnostics]:
    found = Diagnostics()
    (machine,) = devices_of(open_module(f"devices box {{ {text} }}\n", Diagnostics()), found).values()
    return machine, found


def test_attributes_and_defaults_of_devices() -> None:
    machine, found = read(
        "a = cuda(0, memory = 24GB, speed = 100T, bandwidth = 2TB/s)  b = cuda(1)  c = cpu  d = cpu(memory = 1GiB) "
        "link a <-> b = 50GB/s  link c <-> a = 512MiB/s"
    )
    assert not found.found
    assert machine.name == "box"
    assert machine.members == {
        "a": Cuda(index=0, memory=24 * 10**9, speed=1e14, bandwidth=2e12),
        "b": Cuda(index=1),
        "c": Cpu(),
        "d": Cpu(memory=2**30),
    }
    assert machine.links == {frozenset("ab"): 50e9, frozenset("ac"): 512 * 2**20}


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a = gpu(0)", "unknown-device-kind", "gpu"),
        ("a = 7", "unknown-device-kind", "7"),
        ("a = cuda(0)  a = cuda(1)", "duplicate-name", "a"),
        ("a = cuda(0)  b = cuda(0)", "duplicate-device", "cuda(0)"),
        ("a = cpu(memory = 24)", "bad-unit", "24"),
        ("a = cpu(memory = 24GB/s)", "bad-unit", "24GB/s"),
        ("a = cpu(bandwidth = 24GB)", "bad-unit", "24GB"),
        ("a = cpu(speed = 24GB)", "bad-unit", "24GB"),
        ("a = cpu(speed = 0)", "bad-quantity", "0"),
        ("a = cpu(memory = 0.2B)", "bad-quantity", "0.2B"),
        ("a = cpu(memory = big)", "wrong-type", "big"),
        ("a = cuda(0.5)", "wrong-type", "0.5"),
        ("a = cuda(0, 1)", "too-many-options", "1"),
        ("a = cuda(ram = 24GB)", "unknown-option", "ram = 24GB"),
        ("a = cuda(0)  link a <-> b = 5GB/s", "unknown-device", "b"),
        ("a = cuda(0)  link a <-> a = 5GB/s", "bad-link", "a"),
        ("a = cuda(0)  b = cpu  link a <-> b = 5GB", "bad-unit", "5GB"),
        ("a = cuda(0)  b = cpu  link a <-> b = 5GB/s  link b <-> a = 5GB/s", "duplicate-link", "link b <-> a = 5GB/s"),
        ("", "no-devices", "box"),
    ],
)
def test_a_mistake_is_told_once_with_its_place(text: str, code: str, place: str) -> None:
    _, found = read(text)
    assert [(one.code, one.span.text if one.span else None) for one in found] == [(code, place)]


def test_a_wrong_device_does_not_make_its_links_wrong() -> None:
    _, found = read("a = gpu(0)  b = cpu  link a <-> b = 5GB/s")
    assert [one.code for one in found] == ["unknown-device-kind"]


def test_two_processes_may_share_a_processor() -> None:
    machine, found = read("a = cpu  b = cpu")
    assert not found.found and list(machine.members) == ["a", "b"]

"""Options and fixtures of all tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest
from hypothesis import settings

# Every run has the same examples.  There is no deadline, since the time depends on the load of the machine.
settings.register_profile("archc", deadline=None, derandomize=True)
settings.load_profile("archc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


def pytest_collection_finish() -> None:
    """Keep no bytecode of the modules that tests write.

    Python finds outdated bytecode by the size of the source and its time in seconds.  A module that replaces one of
    the same size within a second would therefore run the old bytecode.  The bytecode of the test files themselves is
    written before this call.
    """
    sys.dont_write_bytecode = True


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Run PyTorch on one thread, since pytest-xdist has a worker for each core."""
    try:
        import torch
    except ModuleNotFoundError:  # in the environment of `make test-newer`
        return
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def unchecked_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the check of written files, which takes longer than writing; `check=True` requests it."""
    monkeypatch.setattr("archc.driver.budget.over_budget", lambda graph: "tests check only where they say so")


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Function that replaces all entry points by one, with a name and a value."""

    def announce(name: str, value: str) -> None:
        monkeypatch.setattr("archc.entry_points._installed", lambda group, path: {name: EntryPoint(name, value, group)})

    return announce


@pytest.fixture(autouse=True)
def only_built_in_targets() -> Iterator[None]:
    """Remove the targets that a test registers or loads, so that tests of the registry pass in any order."""
    yield
    registry = sys.modules.get("archc.targets.registry")
    if registry is not None:
        registry.REGISTERED.clear()
        registry.REGISTERED.update({target.name: target for target in registry.BUILT_IN})


@pytest.fixture(autouse=True)
def only_passes_from_before() -> Iterator[None]:
    """Remove the passes that a test loads from files, so that tests of the list pass in any order."""
    base = sys.modules.get("archc.passmanager.base")
    before = set(base.REGISTERED) if base is not None else set()
    yield
    base = sys.modules.get("archc.passmanager.base")
    if base is not None:
        for name, cls in list(base.REGISTERED.items()):
            if name not in before and not cls.__module__.startswith("archc."):
                del base.REGISTERED[name]

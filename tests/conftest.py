"""What all tests share."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

# The same examples on every run, and no deadline: how long one takes depends on what else the machine does.
settings.register_profile("archc", deadline=None, derandomize=True)
settings.load_profile("archc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


def pytest_collection_finish() -> None:
    """Keep no bytecode of what tests write: modules of one name and size within a second would get each other's.

    Test files are imported before, and pytest keeps their rewritten assertions.
    """
    sys.dont_write_bytecode = True


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Two workers of pytest-xdist on two cores: more threads would only wait for each other."""
    try:
        import torch
    except ModuleNotFoundError:  # in the environment of `make test-newer`
        return
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def unchecked_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running what was written takes longer than writing it: tests that are about it ask for it with `check=True`."""
    monkeypatch.setattr("archc.driver.budget.over_budget", lambda graph: "tests check only where they say so")

"""The digit classifier, trained once for all tests of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import digits as job


@pytest.fixture(scope="session")
def digits() -> job.Digits:
    return job.load_digits()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: job.Digits) -> Path:
    """The file of the trained weights of `specs/cnn.arch`."""
    return job.trained(Path(tmp_path_factory.mktemp("trained")), digits, say=lambda text: None)

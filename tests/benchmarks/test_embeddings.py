"""Agreement of embeddings, and random splits of the corpus."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.embeddings import agreement, split

RANDOM = np.random.default_rng(0)


def test_equal_embeddings_agree() -> None:
    vectors = RANDOM.standard_normal((30, 8))
    found = agreement(2 * vectors, vectors)  # the length does not matter
    assert (found.mean, found.least) == pytest.approx((1, 1))
    assert found.neighbours == 1


def test_cosines_of_rotated_embeddings() -> None:
    """Embeddings in a plane, of which one is rotated by 60 degrees, and no other."""
    angles = np.linspace(0, 1, 20)
    turned = angles + np.where(np.arange(20) == 3, np.pi / 3, 0)
    found, expected = (np.stack([np.cos(each), np.sin(each)], axis=1) for each in (turned, angles))
    measured = agreement(found, expected)
    assert measured.least == pytest.approx(0.5)
    assert measured.mean == pytest.approx((19 + 0.5) / 20)


def test_neighbours_exclude_the_sentence_itself() -> None:
    """Of 12 embeddings, each has ten of the other eleven as neighbours, so at least nine are common."""
    found, expected = RANDOM.standard_normal((2, 12, 64))
    shares = agreement(found, expected).neighbours
    assert 0.9 <= shares < 1


def test_samples_are_disjoint_and_differ_between_splits() -> None:
    first, second = (split(seed, 50, 100, 64) for seed in (0, 1))
    calibration, held_out = ({tuple(row) for row in each["tokens"]} for each in (first.calibration, first.held_out))
    assert len(calibration) == 50
    assert len(held_out) == 100
    assert not calibration & held_out
    assert not np.array_equal(first.held_out["tokens"], second.held_out["tokens"])
    larger = split(0, 80, 100, 64)
    assert np.array_equal(larger.held_out["tokens"], first.held_out["tokens"])


def test_too_large_samples_are_refused() -> None:
    with pytest.raises(SystemExit, match="fewer than"):
        split(0, 200, 1_000_000, 64)

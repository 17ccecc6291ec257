"""Factors of kernels, compared with singular value decompositions and convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.compression.factorization.kernel_factors import KernelMetric, WhitenedKernel, composed
from archc.declaration.kernel_forms import KernelForm, kernel_forms

FORMS = {form.name: form for form in kernel_forms((3, 2))}


def kernel(*shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) * np.geomspace(1, 0.1, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))


def gram(size: int, seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((2 * size, size))
    return root.T @ root / size + 0.1 * np.eye(size)


def matrix_of(form: str, tensor: np.ndarray) -> np.ndarray:
    """The matrix whose rank a form of two factors limits, for a kernel [outputs, inputs, height, width]."""
    outputs, _, height, width = tensor.shape
    order = {"channel": (0, 1, 2, 3), "pointwise": (0, 2, 3, 1), "spatial": (0, 3, 1, 2)}[form]
    rows = {"channel": outputs, "pointwise": outputs * height * width, "spatial": outputs * width}[form]
    return tensor.transpose(order).reshape(rows, -1)


def truncated_hosvd(tensor: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    """The projection of a kernel onto the leading singular vectors of its channels, of each axis alone."""
    left = np.linalg.svd(tensor.reshape(len(tensor), -1))[0][:, :outputs]
    right = np.linalg.svd(tensor.swapaxes(0, 1).reshape(tensor.shape[1], -1))[0][:, :inputs]
    return np.einsum("op,qp,ij,kj,qk...->oi...", left, left, right, right, tensor)


@pytest.mark.parametrize("form", ["channel", "pointwise", "spatial"])
def test_two_factors_err_by_the_discarded_singular_values(form: str) -> None:
    tensor = kernel(9, 7, 3, 2)
    expected = np.linalg.svd(matrix_of(form, tensor), compute_uv=False)
    whitened = WhitenedKernel(tensor)
    assert whitened.total == pytest.approx(np.square(tensor).sum())
    for rank in (1, 3, 5):
        factors = whitened.factors(FORMS[form], (rank,))
        assert np.linalg.matrix_rank(matrix_of(form, composed(factors))) == rank
        loss = np.square(expected[rank:]).sum()
        assert np.square(composed(factors) - tensor).sum() == pytest.approx(loss)
        assert whitened.spectra(FORMS[form])[0][rank:].sum() == pytest.approx(loss)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_tucker_is_between_the_best_and_the_truncated_singular_values(inputs: int, outputs: int, seed: int) -> None:
    tensor = kernel(8, 6, 3, seed=seed)
    form = kernel_forms((3,))[2]
    factors = WhitenedKernel(tensor).factors(form, (inputs, outputs))
    assert [factor.shape for factor in factors] == [(inputs, 6, 1), (outputs, inputs, 3), (8, outputs, 1)]
    error = np.square(composed(factors) - tensor).sum()
    simple = np.square(truncated_hosvd(tensor, inputs, outputs) - tensor).sum()
    assert error <= simple + 1e-9
    tails = [spectrum[rank:].sum() for spectrum, rank in zip(WhitenedKernel(tensor).spectra(form), (inputs, outputs))]
    assert max(tails) - 1e-9 <= error <= sum(tails) + 1e-9


def test_tucker_improves_on_the_truncated_singular_values() -> None:
    tensor = np.random.default_rng(3).standard_normal((12, 10, 5))
    error = np.square(composed(WhitenedKernel(tensor).factors(kernel_forms((5,))[2], (4, 4))) - tensor).sum()
    assert error < 0.97 * np.square(truncated_hosvd(tensor, 4, 4) - tensor).sum()


@pytest.mark.parametrize("form", FORMS)
def test_full_ranks_give_the_kernel(form: str) -> None:
    tensor = kernel(5, 7, 3, 2)
    metric = KernelMetric(*(torch.from_numpy(gram(size, size)) for size in (5, 7)), [torch.eye(3) + 1, torch.eye(2)])
    ranks = {"channel": (5,), "pointwise": (7,), "spatial": (10,), "tucker": (7, 5)}[form]
    for known in (metric, None):
        assert np.allclose(composed(WhitenedKernel(tensor, known).factors(FORMS[form], ranks)), tensor)


@pytest.mark.parametrize("form", FORMS)
def test_the_metric_weighs_the_errors(form: str) -> None:
    """The squared norm with a Kronecker product of the metrics, computed in one piece."""
    tensor = kernel(6, 5, 3, 2)
    parts = [gram(size, size) for size in tensor.shape]
    metric = KernelMetric(
        torch.from_numpy(parts[0]), torch.from_numpy(parts[1]), [torch.from_numpy(each) for each in parts[2:]]
    )
    damped = [each + 0.01 * np.diag(each).mean() * np.eye(len(each)) for each in parts]
    whole = np.kron(np.kron(damped[0], damped[1]), np.kron(damped[2], damped[3]))

    def norm(error: np.ndarray) -> float:
        return float(error.reshape(-1) @ whole @ error.reshape(-1))

    ranks = (2,) * FORMS[form].links
    weighted = WhitenedKernel(tensor, metric)
    error = norm(composed(weighted.factors(FORMS[form], ranks)) - tensor)
    tails = [spectrum[rank:].sum() for spectrum, rank in zip(weighted.spectra(FORMS[form]), ranks, strict=True)]
    assert weighted.total == pytest.approx(norm(tensor))
    assert max(tails) - 1e-9 <= error <= sum(tails) + 1e-9
    assert error < norm(composed(WhitenedKernel(tensor).factors(FORMS[form], ranks)) - tensor)


@pytest.mark.parametrize("form", FORMS)
def test_channels_between_two_factors_have_equal_norms(form: str) -> None:
    factors = WhitenedKernel(kernel(6, 5, 3, 2)).factors(FORMS[form], (3,) * FORMS[form].links)
    first, second = factors[-2:]
    before = np.linalg.norm(first.reshape(len(first), -1), axis=1)
    after = np.linalg.norm(second.swapaxes(0, 1).reshape(second.shape[1], -1), axis=1)
    assert np.allclose(before, after)


def test_forms_follow_the_kernel() -> None:
    names = [[form.name for form in kernel_forms(size)] for size in ((1, 1), (512, 1), (3, 3))]
    assert names == [
        ["channel"],
        ["channel", "pointwise", "tucker"],
        ["channel", "pointwise", "tucker", "spatial"],
    ]
    assert KernelForm("spatial", ((1,), (0, 2))) in kernel_forms((1, 3, 3))

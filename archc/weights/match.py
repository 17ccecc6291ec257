"""Comparison of the tensors in a weights file with the weights of a graph."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics, nearest
from archc.weights.dtype_conversion import FLOATS, numpy_dtype
from archc.weights.input_files import quoted
from archc.weights.tensor import ComputedTensor, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt

_CONVERTIBLE = {"f32": frozenset({"f16", "bf16", "f64"})}  # for an expected dtype, the dtypes that are converted to it
_MOST_OF_A_KIND = 20  # limit on the reported mismatches of one code; a wrong file has hundreds of mismatches
_MOST_PREFIXES = 20  # limit on the tested prefixes; each test takes time proportional to the number of names
_MOST_SUGGESTIONS = 1000  # limit on the names that are compared with each missing name


def match(
    expected: Mapping[str, tuple[tuple[int, ...], str]],
    given: Mapping[str, LazyTensor],
    *,
    optional: Container[str] = (),
    remarks: Diagnostics | None = None,
) -> dict[str, LazyTensor]:
    """Return the expected tensors in the order of `expected`, each with the expected shape and dtype.

    A tensor in f16, bf16 or f64 is converted if the expected dtype is f32.

    Args:
        expected: shapes and dtypes by path.
        given: tensors of the file by name.
        optional: paths that may be missing from `given` or from `expected`.
        remarks: collects a warning about converted tensors.

    Raises:
        ArchcError: a diagnostic for each mismatch: `weights-missing`, `weights-surplus`, `weights-shape`,
            `weights-dtype-mismatch`, or `weights-not-finite` (NaN or infinity in the file or after conversion).
    """
    found = Diagnostics()
    _match_names(expected, given, optional, found)
    matched: dict[str, LazyTensor] = {}
    converted: list[str] = []
    for path, (shape, dtype) in expected.items():
        tensor = given.get(path)
        if tensor is None:
            continue
        if tensor.shape != shape:
            found.error(
                "weights-shape",
                f"weight {quoted(path)} must be {_type(shape, dtype)},"
                f" got {_type(tensor.shape, tensor.dtype)} in the file",
                help="the transposed weight is expected" if tensor.shape == shape[::-1] and len(shape) == 2 else None,
            )
        elif tensor.dtype == dtype:
            matched[path] = tensor
        elif tensor.dtype in _CONVERTIBLE.get(dtype, ()):
            matched[path] = _converted(tensor, dtype)
            converted.append(path)
        else:
            found.error(
                "weights-dtype-mismatch", f"weight {quoted(path)} must be {dtype}, got {tensor.dtype} in the file"
            )
    for path, tensor in matched.items():
        _check_finite(path, tensor, found)
    found.check()
    if converted and remarks is not None:
        dtypes = ", ".join(sorted({given[path].dtype for path in converted}))
        first = quoted(converted[0])
        what = f"{first} is" if len(converted) == 1 else f"{len(converted)} weights, such as {first}, are"
        remarks.warn("weights-converted", f"{what} converted from {dtypes} to f32")
    return matched


def _match_names(
    expected: Mapping[str, object], given: Mapping[str, object], optional: Container[str], found: Diagnostics
) -> None:
    """Report missing and surplus names; a missing name and a similar surplus name share one report."""
    missing = [path for path in expected if path not in given and path not in optional]
    surplus = [path for path in given if path not in expected and path not in optional]
    prefix = _common_prefix(missing, given)
    if prefix is not None:
        found.error(
            "weights-missing",
            f"the names in the file begin with {quoted(prefix)}, and those of the model do not",
            help=f"remove the prefix with `--rename RULES`, a file with the line {quoted(prefix + '* -> *')}"
            "; wrappers such as `DataParallel` or `torch.compile` add it",
        )
        _match_names(expected, {path.removeprefix(prefix): tensor for path, tensor in given.items()}, optional, found)
        return
    lacking = _common_prefix(surplus, dict.fromkeys(missing))
    if lacking is not None:
        found.error(
            "weights-missing",
            f"the names of the model begin with {quoted(lacking)}, and those in the file do not",
            help=f"add the prefix with `--rename RULES`, a file with the line {quoted('* -> ' + lacking + '*')}",
        )
        missing = [path for path in missing if path.removeprefix(lacking) not in given]
        surplus = [path for path in surplus if lacking + path not in expected]
    likely = dict.fromkeys(surplus[:_MOST_SUGGESTIONS])
    for path in missing[:_MOST_OF_A_KIND]:
        meant = nearest(path, likely)
        if meant is not None:
            del likely[meant]
            surplus.remove(meant)
        found.error(
            "weights-missing",
            f"the file has no weight {quoted(path)}",
            help=None if meant is None else f"rename {quoted(meant)} in the file: the model has no weight of this name",
        )
    for path in surplus[:_MOST_OF_A_KIND]:
        found.error("weights-surplus", f"the file has a weight {quoted(path)}, which is not in the model")
    for code, paths, what in (
        ("weights-missing", missing, "are missing"),
        ("weights-surplus", surplus, "are not in the model"),
    ):
        if len(paths) > _MOST_OF_A_KIND:
            found.error(code, f"{len(paths) - _MOST_OF_A_KIND} more weights {what}")


def _common_prefix(paths: Sequence[str], others: Mapping[str, object]) -> str | None:
    """Return the shortest prefix that turns at least half of `paths` into elements of `others`, or None."""
    if len(paths) < 2:
        return None
    prefixes = {path.removesuffix(first) for first in paths[:10] for path in others if path.endswith("." + first)}
    for prefix in sorted(prefixes, key=len)[:_MOST_PREFIXES]:
        if 2 * sum(prefix + path in others for path in paths) >= len(paths):
            return prefix
    return None


def _converted(tensor: LazyTensor, dtype: str) -> LazyTensor:
    def convert() -> npt.NDArray[Any]:
        import numpy as np

        with np.errstate(over="ignore"):  # `_check_finite` reports infinities, with the path of the weight
            return tensor.numpy().astype(numpy_dtype(dtype))

    return ComputedTensor(tensor.shape, dtype, convert)


def _check_finite(path: str, tensor: LazyTensor, found: Diagnostics) -> None:
    """Report the first NaN or infinity of a tensor, which is read in chunks."""
    if tensor.dtype not in FLOATS:
        return
    import numpy as np

    start = 0
    for chunk in tensor.chunks():
        finite = np.isfinite(chunk)
        if not finite.all():
            first = int(np.argmin(finite))
            index = ", ".join(str(int(i)) for i in np.unravel_index(start + first, tensor.shape))
            found.error("weights-not-finite", f"weight {quoted(path)} is {float(chunk[first])} at [{index}]")
            return
        start += chunk.size


def _type(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"

"""Does a file hold what a graph expects?  Every mismatch is told, all of them in one go."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics, nearest
from archc.weights.dtypes import FLOATS, numpy_dtype
from archc.weights.files import quoted
from archc.weights.tensor import ComputedTensor, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt

_CONVERTIBLE = {"f32": frozenset({"f16", "bf16", "f64"})}  # expected dtype, and what is turned into it unasked
_MOST_OF_A_KIND = 20  # a wrong file has hundreds of mismatches: the first ones say it
_MOST_SUGGESTIONS = 1000  # names that are compared; a comparison takes microseconds, and all pairs would be compared


def match(
    expected: Mapping[str, tuple[tuple[int, ...], str]],
    given: Mapping[str, LazyTensor],
    *,
    optional: Container[str] = (),
    remarks: Diagnostics | None = None,
) -> dict[str, LazyTensor]:
    """The given tensors that are expected, in the order of `expected`, each of the expected shape and dtype.

    `expected` is path to (shape, dtype).  An `optional` path may be missing, and may be surplus.  A tensor of f16, bf16
    or f64 where f32 is expected is converted when it is read, and a warning about it goes to `remarks`.

    Raises `ArchcError` with one diagnostic a mismatch: `weights-missing`, `weights-surplus`, `weights-shape`,
    `weights-dtype-mismatch`, `weights-not-finite` (NaN or infinity, also by conversion).
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
                f"weight {quoted(path)} is {_type(shape, dtype)},"
                f" and the file holds {_type(tensor.shape, tensor.dtype)}",
                help="the transposed weight is expected" if tensor.shape == shape[::-1] and len(shape) == 2 else None,
            )
        elif tensor.dtype == dtype:
            matched[path] = tensor
        elif tensor.dtype in _CONVERTIBLE.get(dtype, ()):
            matched[path] = _converted(tensor, dtype)
            converted.append(path)
        else:
            found.error(
                "weights-dtype-mismatch", f"weight {quoted(path)} is {dtype}, and the file holds {tensor.dtype}"
            )
    for path, tensor in matched.items():
        _check_finite(path, tensor, found)
    found.check()
    if converted and remarks is not None:
        dtypes = ", ".join(sorted({given[path].dtype for path in converted}))
        what = "1 weight is" if len(converted) == 1 else f"{len(converted)} weights are"
        remarks.warn("weights-converted", f"{what} converted from {dtypes} to f32, {quoted(converted[0])} first")
    return matched


def _match_names(
    expected: Mapping[str, object], given: Mapping[str, object], optional: Container[str], found: Diagnostics
) -> None:
    """Report what is missing and what is surplus; a surplus name that is likely a missing one, misspelt, once."""
    missing = [path for path in expected if path not in given and path not in optional]
    surplus = [path for path in given if path not in expected and path not in optional]
    prefix = _common_prefix(missing, given)
    if prefix is not None and len(surplus) == len(missing):
        found.error(
            "weights-missing",
            f"every weight that the model expects stands below {quoted(prefix)} in the file",
            help="drop that prefix from the names; a wrapper such as `DataParallel` or `torch.compile` puts it there",
        )
        return
    likely = dict.fromkeys(surplus[:_MOST_SUGGESTIONS])
    for path in missing[:_MOST_OF_A_KIND]:
        meant = nearest(path, likely)
        if meant is not None:
            del likely[meant]
            surplus.remove(meant)
        found.error(
            "weights-missing",
            f"the file holds no weight {quoted(path)}",
            help=None if meant is None else f"it holds {quoted(meant)}, which the model does not know: rename that one",
        )
    for path in surplus[:_MOST_OF_A_KIND]:
        found.error("weights-surplus", f"the file holds a weight {quoted(path)}, which the model does not know")
    for code, paths, what in (
        ("weights-missing", missing, "are missing"),
        ("weights-surplus", surplus, "are unknown to the model"),
    ):
        if len(paths) > _MOST_OF_A_KIND:
            found.error(code, f"{len(paths) - _MOST_OF_A_KIND} more weights {what}")


def _common_prefix(missing: Sequence[str], given: Mapping[str, object]) -> str | None:
    """What stands before each missing path in the file, if that is the same for all of several."""
    if len(missing) < 2:
        return None
    prefixes = (path.removesuffix(missing[0]) for path in given if path.endswith("." + missing[0]))
    return next((prefix for prefix in prefixes if all(prefix + path in given for path in missing)), None)


def _converted(tensor: LazyTensor, dtype: str) -> LazyTensor:
    def convert() -> npt.NDArray[Any]:
        import numpy as np

        with np.errstate(over="ignore"):  # what becomes infinite is reported, with its name
            return tensor.numpy().astype(numpy_dtype(dtype))

    return ComputedTensor(tensor.shape, dtype, convert)


def _check_finite(path: str, tensor: LazyTensor, found: Diagnostics) -> None:
    """Report the first NaN or infinity of a tensor, reading it chunk by chunk."""
    if tensor.dtype not in FLOATS:
        return
    import numpy as np

    start = 0
    for chunk in tensor.chunks():
        finite = np.isfinite(chunk)
        if not finite.all():
            first = int(np.argmin(finite))
            index = ", ".join(str(int(i)) for i in np.unravel_index(start + first, tensor.shape))
            found.error("weights-not-finite", f"weight {quoted(path)} holds {float(chunk[first])} at [{index}]")
            return
        start += chunk.size


def _type(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"

"""Comparison of the tensors in a weights file with the weights of a graph."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from archc.diagnostics import Diagnostics, Note
from archc.weights.dtype_conversion import FLOATS, numpy_dtype
from archc.weights.input_files import quoted
from archc.weights.name_mismatches import NameMismatches, add_rule
from archc.weights.rename_rules import Origin, is_name
from archc.weights.tensor import ComputedTensor, LazyTensor

if TYPE_CHECKING:
    import numpy.typing as npt

_CONVERTIBLE = {"f32": frozenset({"f16", "bf16", "f64"})}  # for an expected dtype, the dtypes that are converted to it


def match(
    expected: Mapping[str, tuple[tuple[int, ...], str]],
    given: Mapping[str, LazyTensor],
    *,
    optional: Container[str] = (),
    remarks: Diagnostics | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> dict[str, LazyTensor]:
    """Return the expected tensors in the order of `expected`, each with the expected shape and dtype.

    A tensor in f16, bf16 or f64 is converted if the expected dtype is f32.

    Args:
        expected: shapes and dtypes by path.
        given: tensors of the file by name.
        optional: paths that may be missing from `given` or from `expected`.
        remarks: collects a warning about converted tensors.
        origins: origins of the renamed tensors by path, for help texts; None if no rules are given.

    Raises:
        ArchcError: a diagnostic for each mismatch: `weights-missing`, `weights-surplus`, `weights-shape`,
            `weights-dtype-mismatch`, or `weights-not-finite` (NaN or infinity in the file or after conversion).
    """
    found = Diagnostics()
    NameMismatches(expected, given, optional, origins, found).report()
    matched: dict[str, LazyTensor] = {}
    converted: list[str] = []
    for path, (shape, dtype) in expected.items():
        tensor = given.get(path)
        if tensor is None:
            continue
        if tensor.shape != shape:
            _report_shape(path, (shape, dtype), tensor, origins, found)
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


def _report_shape(
    path: str,
    expected: tuple[tuple[int, ...], str],
    tensor: LazyTensor,
    origins: Mapping[str, Origin] | None,
    found: Diagnostics,
) -> None:
    """Report a tensor of a wrong shape; the help for a transposed weight is a rule."""
    shape, dtype = expected
    origin = None if origins is None else origins.get(path)
    help_ = None
    if tensor.shape == shape[::-1] and len(shape) == 2:
        help_ = _transposing_rule(path, origin, origins is not None)
    found.error(
        "weights-shape",
        f"weight {quoted(path)} must be {_type(shape, dtype)}, got {_type(tensor.shape, tensor.dtype)} in the file",
        notes=() if origin is None else (Note("the rule of this weight", origin.rule.span),),
        help=help_,
    )


def _transposing_rule(path: str, origin: Origin | None, has_rules: bool) -> str:
    """Help text with the rule for a transposed weight."""
    expected = "the transposed weight is expected"
    if origin is None:
        return f"{expected}: {add_rule(f'transpose({path}) -> {path}', has_rules)}" if is_name(path) else expected
    rule = origin.rule
    if len(rule.sources) > 1 or len(rule.targets) > 1 or not is_name(origin.names[0]):
        return expected
    name = origin.names[0]
    new = f"{name} -> {path}" if rule.transposed[0] else f"transpose({name}) -> {path}"
    if rule.sources[0].holes:
        return f"{expected}: write {quoted(new)} above this rule"
    return f"{expected}: change the rule to {quoted(new)}"


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

"""Declared tensor types of the inputs of models and blocks.

The operands of a block must match the declared types of its inputs.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from archc.declaration.errors import too_many_axes
from archc.diagnostics import Note, Span, did_you_mean
from archc.ir.graph import Value
from archc.language.elaboration.advice import origin_notes
from archc.language.elaboration.arithmetic import LARGEST_SIZE
from archc.language.elaboration.context import Elaboration, Instance
from archc.language.elaboration.references import known_names, lookup
from archc.language.syntax import tree
from archc.language.syntax.foreign_names import NAMES, OPEN_SIZE, dtype_help
from archc.types import dim_bounds, dims
from archc.types.dims import SymbolicDim, as_linear, divide
from archc.types.tensor_type import MOST_AXES, DType, TensorType


def declare(elaboration: Elaboration, instance: Instance, node: tree.TypeExpression) -> TensorType:
    """Tensor type that a text declares; unknown names become symbolic sizes.

    Raises:
        Failed: the type is not valid; the reason is reported.
    """
    dtype = _dtype(elaboration, instance, node)
    if len(node.dims) > MOST_AXES:
        problem = too_many_axes(len(node.dims))
        elaboration.report(instance, problem.code, problem.message, node.span, help="declare fewer, longer axes")
    shape: dict[int, int | SymbolicDim] = {}
    for axis, dim in sorted(enumerate(node.dims), key=lambda item: not _is_name(item[1])):
        bound = None
        if dim.bound is not None:
            bound = elaboration.evaluate_size(instance, dim.bound)
            if not isinstance(bound, int):
                elaboration.report(instance, "wrong-type", f"a bound expects a number, got `{bound}`", dim.bound.span)
            if bound < 1:
                elaboration.report(instance, "bad-size", f"a bound is at least 1, got {bound}", dim.bound.span)
        shape[axis] = _size(elaboration, instance, dim, bound)
    return TensorType(dtype, tuple(shape[axis] for axis in range(len(shape))))


def _is_name(dim: tree.Dim) -> bool:
    """Return whether an axis is a single name.

    Single names are bound first, because an expression such as `2*D` may use the name of a later axis.
    """
    return isinstance(dim.value, tree.Name)


def _dtype(elaboration: Elaboration, instance: Instance, node: tree.TypeExpression) -> DType:
    if node.dtype not in DType.__members__:
        known = ", ".join(DType.__members__)
        elaboration.report(
            instance,
            "unknown-dtype",
            f"there is no dtype `{node.dtype}`",
            Span(node.span.source, node.span.start, node.span.start + len(node.dtype)),
            help=dtype_help(node.dtype) or did_you_mean(node.dtype, DType.__members__) or f"the dtypes are {known}",
        )
    return DType(node.dtype)


def _size(elaboration: Elaboration, instance: Instance, node: tree.Dim, bound: int | None) -> int | SymbolicDim:
    value = node.value
    if isinstance(value, tree.Name) and _is_unbound(instance, value.name):
        _check_name(elaboration, instance, value)
        own = dims.symbol(value.name, bound)
        instance.environment.bind(value.name, own, None, "size")
        return own
    new = _new_symbol(elaboration, instance, value)
    size = elaboration.evaluate_size(instance, value)
    if new is not None:
        _check_linear(elaboration, instance, value, size)
        if bound is not None:
            size = _bounded(elaboration, instance, node, size, bound)
    if isinstance(size, int):
        if size < 1:
            message = f"a size is at least 1, got {size}"
            elaboration.report(instance, "bad-size", message, value.span, help=OPEN_SIZE if size == -1 else None)
        if size > LARGEST_SIZE:
            elaboration.report(
                instance, "size-too-large", f"a size is at most {LARGEST_SIZE:,}, got {size:,}", value.span
            )
        if bound is not None and size > bound:
            elaboration.report(
                instance, "bound-exceeded", f"the size {size} is larger than its bound {bound}", node.span
            )
    elif bound is not None:
        most = dim_bounds.largest(size)
        if most is None or most > bound:
            elaboration.report(
                instance,
                "bound-unknown",
                f"`{size}` can be larger than {bound}",
                node.span,
                help="bound each symbol at its first use, such as `N <= 64`",
            )
    checked: int | SymbolicDim = size
    return checked


def _check_name(elaboration: Elaboration, instance: Instance, name: tree.Name) -> None:
    """Refuse the name of a size if it is a keyword, such as `None`."""
    if keyword.iskeyword(name.name) or NAMES.get(name.name) == NAMES["None"]:
        elaboration.report(instance, "reserved-name", f"`{name.name}` cannot name a size", name.span, help=OPEN_SIZE)


def _new_symbol(elaboration: Elaboration, instance: Instance, value: tree.Expression) -> str | None:
    """Bind the unknown name in an axis to a symbol, and return the name; None if all names are known.

    Two unknown names in one axis are refused, because the length of the axis does not determine both.
    """
    unknown = list({name.name: name for name in _names(value) if lookup(instance, name.name) is None}.values())
    if len(unknown) > 1:
        elaboration.report(
            instance,
            "unknown-name",
            f"nothing is called `{unknown[0].name}` or `{unknown[1].name}` here",
            unknown[0].span,
            help=did_you_mean(unknown[0].name, known_names(instance))
            or "declare each new size alone on an axis, as in `f32[H, W]`",
        )
    for name in unknown:
        _check_name(elaboration, instance, name)
        instance.environment.bind(name.name, dims.symbol(name.name), None, "size")
    return unknown[0].name if unknown else None


def _check_linear(
    elaboration: Elaboration, instance: Instance, value: tree.Expression, size: int | SymbolicDim
) -> None:
    """Check that the declared length k · H + c of an axis determines the new size H.

    The factor k must be positive, and so must the length k + c for H = 1.
    """
    part = as_linear(size)
    if part is None or part[1] < 1 or part[1] + part[2] < 1:
        elaboration.report(
            instance,
            "bad-size",
            f"the new size in `{value.span.text}` does not follow from the length of the axis",
            value.span,
            help="write a new size as a name, or as a number times the name plus a number: `16 * H + 1`",
        )


def _bounded(
    elaboration: Elaboration, instance: Instance, node: tree.Dim, size: int | SymbolicDim, bound: int
) -> int | SymbolicDim:
    """Bound the symbol H of a size k · H + c so that the size is at most `bound`, and return the size."""
    part = as_linear(size)
    assert part is not None, "_check_linear holds"
    own, scale, offset = part
    if bound < scale + offset:
        elaboration.report(
            instance,
            "bound-exceeded",
            f"the size is at least {scale + offset}, larger than its bound {bound}",
            node.span,
        )
    bounded = dims.symbol(own.name, (bound - offset) // scale)
    instance.environment.bind(own.name, bounded, None, "size")
    return bounded * scale + offset


def _is_unbound(instance: Instance, name: str) -> bool:
    return name not in instance.environment.bindings


def unify(
    elaboration: Elaboration, instance: Instance, statement: tree.Input, received: Value
) -> dict[str, int | SymbolicDim]:
    """Match the declared type of a block's input with the operand, and bind the sizes in the type.

    Returns:
        The bound sizes, by name.

    Raises:
        Failed: the types do not match; the reason is reported.
    """
    node = statement.type
    assert node is not None
    actual: TensorType = received.type
    dtype = _dtype(elaboration, instance, node)
    name = statement.name.name
    if dtype is not actual.dtype:
        elaboration.report(
            instance,
            "dtype-mismatch",
            f"the input `{name}` is declared as {dtype}, got {actual}",
            Span(node.span.source, node.span.start, node.span.start + len(node.dtype)),
            notes=origin_notes(received),
            help=f"convert the operand of the block with `cast({dtype})`",
        )
    if len(node.dims) != actual.rank:
        count = f"{len(node.dims)} size{'s' if len(node.dims) != 1 else ''}"
        elaboration.report(
            instance,
            "rank-mismatch",
            f"the input `{name}` is declared with {count}, got {actual}",
            node.span,
            notes=origin_notes(received),
        )
    bound: dict[str, int | SymbolicDim] = {}
    for dim, size in sorted(zip(node.dims, actual.shape), key=lambda axis: not _is_name(axis[0])):
        if isinstance(dim.value, tree.Name) and _is_unbound(instance, dim.value.name):
            _check_name(elaboration, instance, dim.value)
            bound[dim.value.name] = size
            instance.environment.bind(dim.value.name, size, None, "size")
        else:
            _match(elaboration, instance, name, dim, size, bound, received)
        if dim.bound is not None:
            _check_bound(elaboration, instance, name, dim, size)
    return bound


def axis_names(node: tree.TypeExpression, sizes: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Name of each axis whose size is a single name in `sizes`; None for other axes."""
    names = (dim.value.name if isinstance(dim.value, tree.Name) else None for dim in node.dims)
    return tuple(name if name in sizes else None for name in names)


def _match(
    elaboration: Elaboration,
    instance: Instance,
    name: str,
    dim: tree.Dim,
    size: int | SymbolicDim,
    bound: dict[str, int | SymbolicDim],
    received: Value,
) -> None:
    """Match one axis; an expression with a single unknown name (`2*D`, `D + 1`) is solved for that name."""
    unknown = [free.name for free in _names(dim.value) if _is_unbound(instance, free.name)]
    for free in unknown:
        instance.environment.bind(free, dims.symbol(free), None, "size")
    declared = elaboration.evaluate_size(instance, dim.value)
    if len(unknown) == 1 and isinstance(declared, SymbolicDim):
        solved = _solve(declared, unknown[0], size)
        if solved is not None:
            bound[unknown[0]] = solved
            instance.environment.bind(unknown[0], solved, None, "size")
            return
    if declared != size:
        shown = f"`{dim.value.span.text}`" + (f" = {declared}" if not isinstance(dim.value, tree.Number) else "")
        sizes = [
            f"`{known}` = {binding.value}"
            for known, binding in instance.environment.bindings.items()
            if binding.kind == "size"
            and isinstance(binding.value, int | SymbolicDim)
            and known not in unknown
            and str(binding.value) != known
        ]
        elaboration.report(
            instance,
            "shape-mismatch",
            f"the input `{name}` is declared with the size {shown}, got {size}",
            dim.span,
            notes=[*origin_notes(received), *(["known sizes: " + ", ".join(sizes)] if sizes else [])],
        )


def _solve(declared: SymbolicDim, unknown: str, size: int | SymbolicDim) -> int | SymbolicDim | None:
    """Positive value of `unknown` for which `declared` equals `size`; None if there is no such value.

    `declared` must be linear in `unknown`.
    """
    for monomial, _ in declared.terms:
        for atom, power in monomial:
            plain = isinstance(atom, dims.Symbol) and power == 1
            if not plain and unknown in dims.symbols(SymbolicDim(((((atom, 1),), 1),))):
                return None
    constant = dims.substitute(declared, {unknown: 0})
    slope = dims.substitute(declared, {unknown: 1}) - constant
    solved = divide(size - constant, slope)
    return solved if solved is not None and (not isinstance(solved, int) or solved > 0) else None


def _names(node: tree.Expression) -> list[tree.Name]:
    """Names in a sum or product, in the order of the text.

    The search is iterative, because a long sum is a deep tree.
    """
    names: list[tree.Name] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tree.Name):
            names.append(one)
        elif isinstance(one, tree.BinaryExpression):
            waiting += [one.right, one.left]
        elif isinstance(one, tree.UnaryExpression):
            waiting.append(one.operand)
    return names


def _check_bound(
    elaboration: Elaboration, instance: Instance, name: str, dim: tree.Dim, size: int | SymbolicDim
) -> None:
    assert dim.bound is not None
    limit: Any = elaboration.evaluate_size(instance, dim.bound)
    if not isinstance(limit, int):
        elaboration.report(instance, "wrong-type", f"a bound expects a number, got `{limit}`", dim.bound.span)
    largest = dim_bounds.largest(size)
    if largest is None:
        elaboration.report(
            instance,
            "bound-unknown",
            f"the input `{name}` needs `{dim.value.span.text} <= {limit}`, and `{size}` has no bound",
            dim.span,
            help=f"bound it in its declaration: `{size} <= {limit}`",
            notes=[Note("the bound is declared here", dim.bound.span)],
        )
    if largest > limit:
        elaboration.report(
            instance,
            "bound-exceeded",
            f"the input `{name}` takes sizes up to {limit}, got up to {largest}",
            dim.span,
        )

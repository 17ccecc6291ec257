"""Computation of a model, or of some of its layers, in f16 or bf16.

Every operator may compute in the narrow dtype: the kernels of PyTorch and ONNX Runtime accumulate in f32, and round the
result once (`tests/passes/test_half_precision.py` compares them with f64).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from archc.compression.calibration.layer_effects import LayerEffect, layer_effects
from archc.compression.quantization.layer_error import measured
from archc.declaration.base import Operator, OperatorError
from archc.interpreter.evaluate import evaluate_all
from archc.ir.graph import Graph, Node, Scope, Value
from archc.ir.scans import Scan, schedule
from archc.ops.create import Cast
from archc.passmanager import Context, select
from archc.types.storage import Dense, NarrowFloat
from archc.types.tensor_type import DType, TensorType

from ._layer_effects import measurable_nodes
from ._quant_remarks import effect_figures, effect_text

if TYPE_CHECKING:
    import torch


def compute_in(
    graph: Graph,
    context: Context,
    dtype: DType,
    keep_io: bool,
    on: str | tuple[str, ...] | None,
    keep: str | tuple[str, ...] | None,
) -> None:
    """Change operators in f32 to a narrow dtype, with casts around those that stay in f32.

    An operator stays in f32 if it is not selected, if a weight, operand or result exceeds the dtype on the calibration
    data, or if it does not support the dtype.

    Args:
        dtype: f16 or bf16.
        keep_io: True if the inputs and outputs of the model stay in f32.
    """
    plan = Plan(graph, dtype, keep_io)
    wanted = select(graph, on, keep)
    largest = {} if dtype is DType.bf16 else _largest(graph, context)
    for node in graph.nodes():
        reason = None if wanted(node.title) else "not selected"
        plan.exclude(node, reason or plan.obstacle(node) or plan.excess(node, largest))
    plan.settle()
    _remark(graph, context, plan, _effects(graph, context, plan))
    _apply(graph, context, plan)


@dataclass
class Plan:
    """Choice of the nodes that compute in the narrow dtype.

    Attributes:
        excluded: the reasons why nodes stay in f32.
        tied: those of them that stay in f32 only because they share a weight.
        operators: new operators, for nodes with an attribute `dtype`.
        results: dtypes in which values in f32 are computed after the change.
        weights: dtypes of weights after the change, by path.
    """

    graph: Graph
    dtype: DType
    keep_io: bool
    excluded: dict[Node, str] = field(default_factory=dict)
    tied: set[Node] = field(default_factory=set)
    operators: dict[Node, Operator] = field(default_factory=dict)
    results: dict[Value, DType] = field(default_factory=dict)
    weights: dict[str, DType] = field(default_factory=dict)

    def exclude(self, node: Node, reason: str | None) -> None:
        """Leave a node in f32, if there is a reason; an earlier reason stays."""
        if reason is not None:
            self.excluded.setdefault(node, reason)

    def wants(self, node: Node) -> DType:
        """Dtype of the floating-point operands of a node."""
        return DType.f32 if node in self.excluded else self.dtype

    def obstacle(self, node: Node) -> str | None:
        """Reason why the weights of a node cannot have the narrow dtype, or None."""
        for path in node.weights.values():
            weight = self.graph.weights[path]
            if weight.dtype is not DType.f32:
                continue
            if weight.storage != Dense():
                return f"`{path}` is stored as {weight.storage}"
            largest = float(np.abs(self.graph.weight_values(path)).max(initial=0))
            if largest > self.dtype.largest:
                return f"`{path}` has values up to {largest:.3g}, and {self.dtype} ends at {self.dtype.largest:.3g}"
        return None

    def excess(self, node: Node, largest: Mapping[Value, float]) -> str | None:
        """Reason why operands or results of a node exceed the narrow dtype, or None."""
        most = max((largest.get(value, 0) for value in (*node.operands, *node.results)), default=0)
        if most <= self.dtype.largest:
            return None
        return f"it has values up to {most:.3g}, and {self.dtype} ends at {self.dtype.largest:.3g}"

    def settle(self) -> None:
        """Infer the new dtypes; exclude nodes until all weights and the ends of all scans have one dtype."""
        while True:
            before = len(self.excluded)
            for scan in self._scans:
                for node, other in ((scan.enter, scan.exit), (scan.exit, scan.enter)):
                    if other in self.excluded:
                        self.exclude(node, self.excluded[other])
            self._infer()
            for node, path in self._uses:
                if self.wants(node) is self.dtype and self.weights[path] is DType.f32:
                    self._exclude_other_use(node, path)
            if len(self.excluded) == before:
                return

    @cached_property
    def _scans(self) -> list[Scan]:
        return list(_scans(schedule(self.graph)))

    @cached_property
    def _uses(self) -> list[tuple[Node, str]]:
        return [(node, path) for node in self.graph.nodes() for path in node.weights.values()]

    def _infer(self) -> None:
        self.operators, self.weights = {}, {}
        self.results = {
            value: DType.f32 if self.keep_io else self.dtype
            for value in self.graph.inputs
            if value.type.dtype is DType.f32
        }
        for node in self.graph.nodes():
            try:
                op, results, parameters = self._inferred(node)
            except OperatorError as problem:
                self.exclude(node, problem.message)
                op, results, parameters = self._inferred(node)
            if op != node.op:
                self.operators[node] = op
            for value, dtype in zip(node.results, results, strict=True):
                if value.type.dtype is DType.f32:
                    self.results[value] = dtype
            for name, path in node.weights.items():
                # The narrowest dtype would do only for some of the uses, so the widest one counts.
                if self.weights.get(path) is not DType.f32:
                    self.weights[path] = parameters[name]

    def _inferred(self, node: Node) -> tuple[Operator, list[DType], dict[str, DType]]:
        """Operator, and dtypes of the results and parameters of a node after the change."""
        op, wanted = node.op, self.wants(node)
        if getattr(op, "dtype", None) is DType.f32 and wanted is not DType.f32:
            op = replace(op, dtype=wanted)  # type: ignore[call-arg]
        types = [
            TensorType(wanted, value.type.shape) if value in self.results else value.type for value in node.operands
        ]
        inference = op.infer(types)
        parameters = {name: type.dtype for name, type in inference.parameters.items()}
        return op, [type.dtype for type in inference.results], parameters

    def narrowed(
        self, node: Node, operands: list[torch.Tensor], weights: dict[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        """The operands of a node as they are after the change; changes its weights, by path."""
        import torch

        dtype = getattr(torch, self.dtype.torch)
        for path, tensor in weights.items():
            if self.weights.get(path) is self.dtype:
                weights[path] = tensor.to(dtype)
            elif tensor.dtype is torch.float32 and self.is_narrow_in_file(path):
                weights[path] = tensor.to(dtype).to(tensor.dtype)
        return [
            tensor.to(dtype) if value in self.results and self.wants(node) is self.dtype else tensor
            for value, tensor in zip(node.operands, operands)
        ]

    def is_narrow_in_file(self, path: str) -> bool:
        """Return whether a weight in f32 is stored in the narrow dtype, as the table of an embedding."""
        return all(node not in self.excluded or node in self.tied for node, used in self._uses if used == path)

    def _exclude_other_use(self, node: Node, path: str) -> None:
        """Exclude a node that shares a weight with a node in f32."""
        names = [name for name, other in node.weights.items() if other == path]
        parameters = self._inferred(node)[2]
        if any(parameters[name] is self.dtype for name in names):
            self.tied.add(node)
            self.exclude(node, f"it shares `{path}` with a layer in f32")


def _scans(items: Iterable[Node | Scan]) -> Iterable[Scan]:
    for item in items:
        if isinstance(item, Scan):
            yield item
            yield from _scans(item.body)


def _largest(graph: Graph, context: Context) -> dict[Value, float]:
    """Largest finite absolute value of each value in f32 over the calibration data."""
    import torch

    found: dict[Value, float] = {}
    for batch in context.calibration.batches():
        for value, tensor in evaluate_all(graph, batch):
            if tensor.dtype is torch.float32 and tensor.numel():
                most = torch.where(tensor.isfinite(), tensor, 0).abs().max().item()
                found[value] = max(found.get(value, 0.0), most)
    return found


def _effects(graph: Graph, context: Context, plan: Plan) -> dict[Node, LayerEffect]:
    """Measured effects of the layers that compute in the narrow dtype, before the change."""
    layers = [node for node in graph.nodes() if node.weights and node not in plan.excluded]
    layers = measurable_nodes(graph, context, layers)
    if not layers:
        return {}
    context.progress("measure the effect of each layer on the outputs")
    batches = measured(context.calibration.batches)
    return layer_effects(graph, {node: {} for node in layers}, batches, narrowed=plan.narrowed)


def _remark(graph: Graph, context: Context, plan: Plan, effects: Mapping[Node, LayerEffect]) -> None:
    for node in graph.nodes():
        if node in plan.excluded:
            context.left(node, plan.excluded[node])
        elif node.weights:
            weights = [graph.weights[path] for path in node.weights.values()]
            if all(weight.dtype is not DType.f32 for weight in weights):
                context.left(node, f"its weights are {weights[0].dtype}, and only operators in f32 change their dtype")
                continue
            before = sum(weight.nbytes for weight in weights)
            after = sum(weight.size * 2 if weight.dtype is DType.f32 else weight.nbytes for weight in weights)
            effect = effects.get(node, LayerEffect(None, None))
            noise = effect_text(effect.snr_db, effect.output_error)
            context.rewrote(
                node,
                f"computes in {plan.dtype}{noise}, {before:,} bytes become {after:,}",
                format=str(plan.dtype),
                bytes_before=before,
                bytes_after=after,
                **effect_figures(effect.snr_db, effect.output_error),
            )


def _apply(graph: Graph, context: Context, plan: Plan) -> None:
    rewriter = context.rewriter
    values = [*graph.inputs, *(value for node in graph.nodes() for value in node.results)]
    uses = {value: list(graph.consumers(value)) for value in values if value in plan.results}
    with rewriter.retyped():
        for value in graph.inputs if not plan.keep_io else ():
            if value in plan.results:
                rewriter.set_input_dtype(value, plan.dtype)
        for node, op in plan.operators.items():
            rewriter.set_operator(node, op)
        for path, weight in list(graph.weights.items()):
            if weight.dtype is not DType.f32:
                continue
            if plan.weights[path] is plan.dtype:
                rewriter.set_weight_dtype(path, plan.dtype)
            elif plan.is_narrow_in_file(path):
                rewriter.set_storage(path, NarrowFloat(plan.dtype))  # such as the table of an embedding
        for value, users in uses.items():
            _cast(graph, context, plan, value, users)


def _cast(graph: Graph, context: Context, plan: Plan, value: Value, users: list[Node]) -> None:
    """Insert casts between a value and its uses in the other dtype.

    A cast to the narrow dtype follows the producer, and serves all uses.  A cast to f32 is in the block of its uses, so
    that equal blocks stay equal.
    """
    rewriter, made = context.rewriter, plan.results[value]
    other = plan.dtype if made is DType.f32 else DType.f32
    casting = [node for node in users if plan.wants(node) is other]
    scopes: dict[Scope | None, list[Node]] = {}
    for node in casting:
        scopes.setdefault(node.scope if other is DType.f32 else None, []).append(node)
    for scope, nodes in scopes.items():
        near = nodes[0] if scope is not None or value.producer is None else value.producer
        around = scope or (graph.scope if value.producer is None else value.producer.scope)
        cast = rewriter.add(Cast(other), [value], near=near, scope=around)
        rewriter.replace_uses(value, cast.result, nodes)
    outer = DType.f32 if plan.keep_io else plan.dtype
    for name in [name for name, output in graph.outputs.items() if output is value] if outer is not made else ():
        rewriter.output(name, rewriter.add(Cast(outer), [value], near=value.producer, scope=graph.scope).result)

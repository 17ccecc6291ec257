"""Speed and conditioning of pivoted low-rank factors: an r × r block of a factor is the identity.

For W ≈ BA of rank r, the rows `piv` of B are linearly independent, and B B[piv]⁻¹ has the identity there.  So the pair
h = A' x, y[piv] = h, y[rest] = B' h has r (m + n - r) parameters instead of r (m + n), but the result is a
concatenation in another order.  "absorbed" leaves the order out, as if the layer after it had permuted columns.  On the
side of the operand, h = x[piv] + A' x[rest] and y = B' h.

Times are those of one thread in processor time, relative to the pair of plain factors.

    .venv/bin/python -m benchmarks.pivoted [--rounds 9] [--rows 64 2048] [--weights]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from time import process_time
from typing import Any

import numpy as np
import onnx
import onnxruntime
import scipy.linalg
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tables import markdown
from benchmarks.timing import interleaved

RANKS = {
    (384, 384): (64, 128, 192),
    (1536, 384): (64, 128, 256),
    (384, 1536): (64, 128, 256),
    (4096, 1024): (64, 256, 512),
}
"""Ranks for each m and n, the result and operand features."""
Array = np.ndarray[Any, Any]
Forms = Mapping[str, Callable[[], Any]]


def factors(m: int, n: int, rank: int) -> tuple[Array, Array]:
    """Random factors B (m × r) and A (r × n)."""
    generator = np.random.default_rng(0)
    return (
        generator.standard_normal((m, rank)).astype(np.float32) / rank**0.5,
        generator.standard_normal((rank, n)).astype(np.float32) / n**0.5,
    )


def pivots(factor: Array) -> Array:
    """Rows of a tall factor that are far from linearly dependent, by QR with column pivoting."""
    _, order = scipy.linalg.qr(factor.T, mode="r", pivoting=True)
    found: Array = order[: factor.shape[1]]
    return found


class Pivoted:
    """The pivoted form of factors on the side of the result.

    Attributes:
        first, second: A' (r × n) and B' (m - r × r).
        order: the place of each result feature in the concatenation of h and B' h.
    """

    def __init__(self, left: Array, right: Array):
        own = pivots(left)
        rest = np.setdiff1d(np.arange(len(left)), own)
        block = left[own].astype(np.float64)
        self.condition = float(np.linalg.cond(block))
        self.first = (block @ right).astype(np.float32)
        self.second = np.linalg.solve(block.T, left[rest].T.astype(np.float64)).T.astype(np.float32)
        self.order = np.argsort(np.concatenate([own, rest]))


def in_torch(x: torch.Tensor, left: Array, right: Array, m: int, n: int) -> Forms:
    """The forms of a layer in eager PyTorch."""
    linear = torch.nn.functional.linear
    dense, b, a = (torch.from_numpy(each) for each in ((left @ right).copy(), left, right))
    one, other = Pivoted(left, right), Pivoted(right.T, left.T)
    first, second, order = (torch.from_numpy(each) for each in (one.first, one.second, one.order))
    up, gather = torch.from_numpy(other.first.T.copy()), torch.from_numpy(other.second.T.copy())
    places = torch.from_numpy(np.argsort(other.order))
    rank = len(right)
    own, rest = places[:rank], places[rank:]
    bias = torch.zeros(m)

    def result() -> torch.Tensor:
        h = linear(x, first)
        return torch.cat([h, linear(h, second)], -1)

    return {
        "dense": lambda: linear(x, dense, bias),
        "pair": lambda: linear(linear(x, a), b, bias),
        "result": lambda: result()[..., order] + bias,
        "result, absorbed": lambda: result() + bias,
        "operand": lambda: linear(torch.addmm(x[..., own], x[..., rest], gather.T), up, bias),
        "operand, absorbed": lambda: linear(torch.addmm(x[:, :rank], x[:, rank:], gather.T), up, bias),
    }


def in_onnx(x: Array, left: Array, right: Array, m: int, n: int) -> Forms:
    """The forms of a layer in ONNX Runtime."""
    rank = len(right)
    one, other = Pivoted(left, right), Pivoted(right.T, left.T)
    places = np.argsort(other.order)
    values = {
        "dense": (left @ right).T,
        "a": right.T,
        "b": left.T,
        "first": one.first.T,
        "second": one.second.T,
        "order": one.order,
        "up": other.first,
        "gather": other.second,
        "own": places[:rank],
        "rest": places[rank:],
        "bias": np.zeros(m, np.float32),
        "sizes": np.array([rank, n - rank]),
    }
    node = helper.make_node
    pivoted = [
        node("MatMul", ["x", "first"], ["h"]),
        node("MatMul", ["h", "second"], ["r"]),
        node("Concat", ["h", "r"], ["c"], axis=-1),
    ]
    operand = [
        node("MatMul", ["q", "gather"], ["s"]),
        node("Add", ["s", "p"], ["h"]),
        node("Gemm", ["h", "up", "bias"], ["y"]),
    ]
    graphs = {
        "dense": [node("Gemm", ["x", "dense", "bias"], ["y"])],
        "pair": [node("MatMul", ["x", "a"], ["h"]), node("Gemm", ["h", "b", "bias"], ["y"])],
        "result": [*pivoted, node("Gather", ["c", "order"], ["g"], axis=1), node("Add", ["g", "bias"], ["y"])],
        "result, absorbed": [*pivoted, node("Add", ["c", "bias"], ["y"])],
        "operand": [
            node("Gather", ["x", "own"], ["p"], axis=1),
            node("Gather", ["x", "rest"], ["q"], axis=1),
            *operand,
        ],
        "operand, absorbed": [node("Split", ["x", "sizes"], ["p", "q"], axis=1), *operand],
    }
    return {title: _session(nodes, values, x, m) for title, nodes in graphs.items()}


def _session(nodes: list[onnx.NodeProto], values: Mapping[str, Array], x: Array, m: int) -> Callable[[], Any]:
    used = {name for each in nodes for name in each.input}
    stored = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in values.items() if name in used]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(x), m])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def check(forms: Forms) -> None:
    """Compare the results of the forms; an absorbed order is another one."""
    expected = np.asarray(forms["pair"]())
    for title in ("dense", "result", "operand"):
        error = np.abs(np.asarray(forms[title]()) - expected).max() / np.abs(expected).max()
        assert error < 1e-3, f"{title}: {error}"


def speed(ranks: Mapping[tuple[int, int], Sequence[int]], rounds: int, counts: Sequence[int]) -> str:
    """Table of the time of each form, relative to the pair."""
    lines = []
    for (m, n), each in ranks.items():
        for rank in each:
            left, right = factors(m, n, rank)
            for count in counts:
                x = np.random.default_rng(1).standard_normal((count, n)).astype(np.float32)
                every = {
                    "PyTorch": in_torch(torch.from_numpy(x), left, right, m, n),
                    "ONNX Runtime": in_onnx(x, left, right, m, n),
                }
                for runtime, forms in every.items():
                    check(forms)
                    with torch.no_grad():
                        times = interleaved(forms, rounds, 0.01, process_time)
                    relative = [f"{times[title] / times['pair']:.2f}" for title in forms if title != "pair"]
                    saved = (m + n - rank) / (m + n)
                    lines.append([f"{n} → {m}, {runtime}", str(rank), str(count), f"{saved:.2f}", *relative])
    head = ["", "rank", "rows", "parameters", "dense", "result", "absorbed", "operand", "absorbed"]
    return markdown(head, lines)


def conditioning() -> str:
    """Table of the conditioning of the pivoted forms of MiniLM's weights."""
    from benchmarks.embeddings import compile_minilm

    graph = compile_minilm().graph
    found: dict[int, list[tuple[float, float, float]]] = {}
    for node in graph.nodes():
        if node.op.name != "linear":
            continue
        weight = graph.weight_values(node.weights["weight"])
        u, s, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
        for rank in (64, 128, 192):
            left, right = ((u * np.sqrt(s))[:, :rank], (np.sqrt(s)[:, None] * v)[:rank])
            form = Pivoted(left.astype(np.float32), right.astype(np.float32))
            product = np.vstack([np.eye(rank), form.second.astype(np.float64)])[form.order] @ form.first
            error = np.linalg.norm(product - left @ right) / np.linalg.norm(left @ right)
            found.setdefault(rank, []).append((form.condition, float(np.abs(form.second).max()), float(error)))
    lines = [
        [str(rank), *(f"{np.median(each):.3g} ({np.max(each):.3g})" for each in zip(*rows, strict=True))]
        for rank, rows in found.items()
    ]
    return markdown(["rank", "condition of the block", "largest element of B'", "error in f32"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="number of interleaved rounds (default: %(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 2048], help="rows of the operand")
    parser.add_argument("--weights", action="store_true", help="also print the conditioning of MiniLM's weights")
    parser.add_argument("--tiny", action="store_true", help="one small layer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(speed({(32, 24): (8,)}, 1, [4]) if options.tiny else speed(RANKS, options.rounds, options.rows))
    if options.weights:
        print()
        print(conditioning())


if __name__ == "__main__":
    main()

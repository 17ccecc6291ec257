"""Hard cases for channel pruning: channels are reordered, split, joined, tied or grouped."""

from __future__ import annotations

from collections.abc import Callable

from archc.ir.graph import Graph, Value
from archc.types.tensor_type import DType
from tests.passes.graphs import Build


def conv(build: Build, x: Value, channels: int, name: str, kernel: int = 3, **options: object) -> Value:
    return build.layer("conv2d", x, channels, kernel, name=name, padding=kernel // 2, **options)


def classifier(build: Build, x: Value) -> Graph:
    return build.done(build.layer("linear", build.layer("mean", x, (2, 3)), 5, name="fc"))


def residual() -> Graph:
    build = Build()
    x = build.layer("relu", conv(build, build.input(3, 6, 6), 8, "stem"))
    y = build.layer("relu", build.layer("batch_norm", conv(build, x, 12, "conv1"), name="bn1"))
    y = build.layer("batch_norm", conv(build, y, 8, "conv2"), name="bn2")
    return classifier(build, build.layer("relu", build.layer("add", x, y)))


def repeated(times: int) -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 8, "conv1")
    return classifier(build, conv(build, build.layer("concat", *[x] * times, dim=1), 6, "conv2"))


def one_channel_gate() -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 8, "conv1")
    gate = build.layer("sigmoid", conv(build, x, 1, "gate"))
    return classifier(build, conv(build, build.layer("mul", x, gate), 6, "conv2"))


def squeeze_and_excitation() -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 8, "conv1")
    squeezed = build.layer("mean", x, (2, 3), keepdim=True)
    gate = build.layer("relu", conv(build, squeezed, 4, "down", 1))
    gate = build.layer("sigmoid", conv(build, gate, 8, "up", 1))
    return classifier(build, conv(build, build.layer("mul", x, gate), 6, "conv2"))


def linear_to_transposed_convolution() -> Graph:
    build = Build()
    x = build.layer("reshape", build.layer("linear", build.input(7), 8 * 3 * 3, name="fc1"), (-1, 8, 3, 3))
    up = build.layer("conv_transpose2d", build.layer("relu", x), 6, 4, name="up", stride=2)
    return build.done(conv(build, up, 1, "last"))


def pixel_shuffle() -> Graph:
    build = Build()
    x = build.layer("pixel_shuffle", conv(build, build.input(3, 6, 6), 6 * 4, "conv1"), 2)
    return classifier(build, conv(build, x, 5, "conv2"))


def channel_shuffle() -> Graph:
    build = Build()
    x = conv(build, conv(build, build.input(3, 6, 6), 32, "stem"), 32, "conv1", groups=4)
    y = conv(build, build.layer("channel_shuffle", x, 4), 16, "conv2", groups=4)
    return classifier(build, conv(build, y, 6, "conv3"))


def shuffle_written_out() -> Graph:
    build = Build()
    x = conv(build, conv(build, build.input(3, 6, 6), 32, "stem"), 32, "conv1", groups=4)
    x = build.layer("reshape", build.layer("transpose", build.layer("unflatten", x, 1, (4, 8)), 1, 2), (-1, 32, 6, 6))
    return classifier(build, conv(build, x, 8, "conv2", groups=4))


def tied() -> Graph:
    build = Build()
    x = build.layer("embedding", build.input(5, name="ids", dtype=DType.i64), 11, 8, name="wte")
    y = build.layer("linear", build.layer("gelu", build.layer("linear", x, 16, name="up")), 8, name="down")
    x = build.layer("add", x, y)
    return build.done(build.layer("linear", x, 11, name="head", bias=False, weights={"weight": "wte.weight"}))


def tied_transposed() -> Graph:
    build = Build()
    x = build.layer("tanh", build.layer("linear", build.input(6), 10, name="wide"))
    code = build.layer("tanh", build.layer("linear", x, 4, name="encode"))
    own = {"weight": "encode.weight"}
    x = build.layer("tanh", build.layer("linear", code, 10, name="decode", weights=own, transposed=["weight"]))
    return build.done(build.layer("linear", x, 6, name="last"))


def attention_written_out() -> Graph:
    build = Build()
    x = build.layer("linear", build.input(5, 12), 10, name="embed")
    heads = {"q": "b t (h e) -> b h t e", "k": "b t (h e) -> b h e t", "v": "b t (h e) -> b h t e"}
    q, k, v = (
        build.layer("rearrange", build.layer("linear", x, 16, name=name), pattern, (("h", 4),))
        for name, pattern in heads.items()
    )
    scores = build.layer("softmax", build.layer("mul", build.layer("matmul", q, k), scalar=0.5))
    y = build.layer("rearrange", build.layer("matmul", scores, v), "b h t e -> b t (h e)")
    return build.done(build.layer("linear", build.layer("linear", y, 10, name="out"), 3, name="last"))


def attention_in_one_layer() -> Graph:
    build = Build()
    q, k, v = three(build, build.layer("linear", build.input(5, 12), 48, name="qkv"))
    return build.done(build.layer("linear", build.layer("attention", q, k, v, 4), 3, name="out"))


def three(build: Build, x: Value) -> tuple[Value, ...]:
    first = build.layer("chunk", x, 3, dim=2)
    assert first.producer is not None
    return first.producer.results


def grouped_queries() -> Graph:
    build = Build()
    x = build.input(5, 12)
    q, k, v = (build.layer("linear", x, size, name=name) for name, size in (("q", 32), ("k", 16), ("v", 16)))
    return build.done(build.layer("linear", build.layer("attention", q, k, v, 8, kv_heads=4), 3, name="out"))


def grouped_queries_written_out() -> Graph:
    build = Build()
    x = build.input(5, 12)
    q = build.layer("linear", x, 32, name="q")
    q = build.layer("rearrange", q, "b t (g r e) -> b g r t e", (("g", 4), ("r", 2)))
    k, v = (build.layer("linear", x, 16, name=name) for name in ("k", "v"))
    k = build.layer("rearrange", k, "b s (g e) -> b g 1 e s", (("g", 4),))
    v = build.layer("rearrange", v, "b s (g e) -> b g 1 s e", (("g", 4),))
    scores = build.layer("softmax", build.layer("matmul", q, k))
    y = build.layer("rearrange", build.layer("matmul", scores, v), "b g r t e -> b t (g r e)")
    return build.done(build.layer("linear", y, 3, name="out"))


def split_and_concat() -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 12, "conv1")
    first = build.layer("split", x, (8, 4), dim=1)
    assert first.producer is not None
    a, b = first.producer.results
    joined = build.layer("concat", conv(build, a, 6, "conv2"), conv(build, b, 5, "conv3"), dim=1)
    return classifier(build, conv(build, joined, 6, "conv4"))


def dense_connections() -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 8, "stem")
    for number in range(3):
        normed = build.layer("relu", build.layer("batch_norm", x, name=f"bn{number}"))
        x = build.layer("concat", x, conv(build, normed, 4, f"conv{number}"), dim=1)
    return classifier(build, x)


def flatten() -> Graph:
    build = Build()
    x = build.layer("max_pool2d", conv(build, build.input(3, 6, 6), 8, "conv1"), 2)
    x = build.layer("linear", build.layer("flatten", x), 12, name="fc1")
    return build.done(build.layer("linear", build.layer("relu", x), 4, name="fc2"))


def unequal_concat() -> Graph:
    build = Build()
    x = build.input(3, 6, 6)
    joined = build.layer("concat", conv(build, x, 5, "conv1"), x, conv(build, x, 9, "conv2"), dim=1)
    return classifier(build, conv(build, build.layer("relu", joined), 6, "conv3"))


def depthwise() -> Graph:
    build = Build()
    x = build.layer("batch_norm", conv(build, build.input(3, 6, 6), 8, "conv1"), name="bn1")
    x = build.layer("relu6", conv(build, build.layer("relu6", x), 8, "depth", groups=8))
    return classifier(build, conv(build, conv(build, x, 16, "wider", groups=8), 6, "point", 1))


def group_norm() -> Graph:
    build = Build()
    x = conv(build, build.input(3, 6, 6), 12, "conv1")
    return classifier(build, conv(build, build.layer("group_norm", x, 4, name="norm"), 6, "conv2"))


def slices() -> Graph:
    build = Build()
    x = build.layer("linear", build.input(7), 12, name="fc1")
    a = build.layer("slice", x, (None, (3, 7, None)))
    b = build.layer("slice", x, (None, (0, 4, None)))
    y = build.layer("concat", build.layer("add", a, b), x, dim=1)
    return build.done(
        build.layer("linear", build.layer("glu", build.layer("linear", y, 16, name="fc2")), 3, name="fc3")
    )


GRAPHS: dict[str, Callable[[], Graph]] = {
    "residual": residual,
    "concatenated twice": lambda: repeated(2),
    "concatenated three times": lambda: repeated(3),
    "one-channel gate": one_channel_gate,
    "squeeze and excitation": squeeze_and_excitation,
    "linear to transposed convolution": linear_to_transposed_convolution,
    "pixel shuffle": pixel_shuffle,
    "channel shuffle": channel_shuffle,
    "channel shuffle written out": shuffle_written_out,
    "tied embedding": tied,
    "tied and transposed": tied_transposed,
    "attention written out": attention_written_out,
    "attention in one layer": attention_in_one_layer,
    "grouped-query attention": grouped_queries,
    "grouped-query attention written out": grouped_queries_written_out,
    "split and concat": split_and_concat,
    "dense connections": dense_connections,
    "flatten": flatten,
    "concat of unequal widths": unequal_concat,
    "depthwise": depthwise,
    "group norm": group_norm,
    "slices": slices,
}

"""Texts of models, with the printed text of their graphs."""

FIXED = {
    "chain": """\
# The classifier of the course,
# in two lines.
model cnn {
    input image: f32[N, 1, 28, 28]

    features = image
        -> conv1: conv2d(32, 3) -> relu -> max_pool2d(2)
        -> conv2: conv2d(64, 3) -> relu -> max_pool2d(2)

    output logits: f32[N, 10] = features -> flatten -> fc1: linear(128) -> relu -> fc2: linear(10)
}
""",
    "loop": """\
model mlp {
    input x: f32[N, 784]

    for i in 0..3 { x = x -> hidden[i]: linear(1024) -> relu }
    output logits: f32[N, 10] = x -> head: linear(10)
}
""",
    "loop over what differs": """\
model mlp {
    input x: f32[N, 784]

    let out_features = [64, 32, 16]
    for i in 0..3 { x = x -> hidden[i]: linear(out_features[i]) -> relu }

    output y: f32[N, 16] = x
}
""",
    "tied weight and bounded size": """\
model gpt {
    input tokens: i64[B, T <= 1024]

    x = (tokens -> wte: embedding(50, 16)) + (arange(T) -> wpe: embedding(1024, 16))
    output logits: f32[B, T, 50] = x -> head: linear(50, bias = false, weight = wte.weight)
}
""",
    "layer used twice": """\
model siamese {
    input a: f32[N, 8]
    input b: f32[N, 8]
    layer encoder = linear(4)

    p = a -> encoder
    q = b -> encoder

    output distance: f32[N, 4] = -(p - q) ** 2 * 0.5
}
""",
    "block with what differs": """\
block Block(width) {
    input x
    output x + (x -> up: linear(width) -> gelu -> down: linear(8))
}

model net {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> first: Block(32) -> second: Block(64)
}
""",
    "several results": """\
model heads {
    input x: f32[N, 12]

    q, k, v = x -> split(4, dim = 1)
    output y: f32[N, 4] = q * k + v * q
    output z: f32[N, 12] = x -> split(6, dim = 1) -> concat(dim = 1)
}
""",
    "indices": """\
model crop {
    input x: f32[N, 8, 8]
    output y: f32[N, 6] = x[:, 0, 1:-1]
    output z: f32[N, 4] = x[..., ::2][:, -1]
}
""",
    "names of their own": """\
model plain {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> linear(8) -> linear(8) -> out: linear(8) -> linear(8)
}
""",
    "parts of a layer": """\
model compressed {
    input x: f32[N, 8]

    output y: f32[N, 8] = x
        -> fc1.a: linear(2, bias = false)
        -> fc1.b: linear(8, weight = int8(axis = 0))
}
""",
    "values swapped in a loop": """\
model swap {
    input x: f32[N, 8]

    a = x -> p: linear(8)
    b = x -> q: linear(8)

    for i in 0..4 {
        t = a + b -> f[i]: linear(8)
        a = b -> g[i]: linear(8)
        b = t
    }

    output y: f32[N, 8] = a * b
}
""",
    "outputs called like what they are made of": """\
model names {
    input x: f32[N, 8]

    a = x -> p: linear(8)
    b = x -> q: linear(8)
    rest = x[:, 1:]
    z = a + b

    output b: f32[N, 8] = z -> relu
    output rest: f32[N, 7] = rest -> tanh
    output a: f32[N, 8] = a + z
}
""",
    "an output called like an input that is read later": """\
model passing {
    input x: f32[N, 8]

    y = x
    output x: f32[N, 8] = y -> relu
    output other: f32[N, 8] = y
}
""",
    "one tensor under several names": """\
model names {
    input x: f32[N, 8]
    input z: f32[N, 8]

    a_2 = x * 1.5
    output a: f32[N, 8] = a_2
    output b: f32[N, 8] = a_2
    output c: f32[N, 8] = a_2
    output all: f32[N, 8] = z * 0.5
}
""",
    "a block's own names for its inputs": """\
block Cross {
    input query
    input memory
    output query + (memory -> value: linear(8))
}

model net {
    input x: f32[N, 8]
    input y: f32[N, 8]
    output z: f32[N, 8] = (x, y) -> first: Cross
}
""",
    "sizes that a block's inputs name": """\
block Mix(width) {
    input x: f32[B, T, D]
    input memory: f32[B, S, D]
    input scale: f32[D, 4]
    output x + (memory -> up: linear(width) -> down: linear(D) -> mean(dim = 1, keepdim = true)) + (scale -> sum)
}

model net {
    input x: f32[N, S, 8]
    input other: f32[N, T, 8]
    input scale: f32[8, 4]
    input y: f32[N, S, 6]
    input z: f32[N, T, 6]
    input small: f32[6, 4]
    output a: f32[N, S, 8] = (x, other, scale) -> first: Mix(32)
    output b: f32[N, S, 6] = (y, z, small) -> second: Mix(64)
}
""",
    "one tensor for two inputs of a block": """\
block Cross {
    input query
    input memory
    output (query -> tanh) + (memory -> value: linear(8))
}

model net {
    input x: f32[N, 8]
    input y: f32[N, 8]

    a = (x, x) -> first: Cross
    b = (a, y) -> second: Cross

    output z: f32[N, 8] = (b, b) -> third: Cross
}
""",
    "one block at two depths": """\
block Inner(width) {
    input x
    output x -> fc: linear(width) -> tanh
}

block Outer {
    input x
    output x -> Inner(4) -> fc: linear(8)
}

model net {
    input x: f32[N, 8]
    output y: f32[N, 8] = x -> first: Outer -> second: Inner(8)
}
""",
    "numbers and truth values are not one attribute": """\
block Conv(padding, ceil_mode) {
    input x
    output x -> conv: conv2d(4, 3, padding = padding) -> pool: max_pool2d(2, ceil_mode = ceil_mode)
}

model net {
    input x: f32[N, 4, 20, 20]

    output y: f32[N, 4, 4, 4] = x
        -> a: Conv(padding = 1, ceil_mode = true)
        -> b: Conv(padding = 0, ceil_mode = false)
}
""",
}
"""Texts that are equal to the printed text of their graphs."""

REWRITTEN = {
    "attributes are evaluated": (
        "model m(width = 4) { input x: f32[N, 2 * width] output y = x -> fc: linear(width // 2) }",
        "model m {\n    input x: f32[N, 8]\n    output y: f32[N, 2] = x -> fc: linear(2)\n}\n",
    ),
    "uses that differ are told apart": (
        """
        block Residual(stride) {
            input x
            y = x -> conv: conv2d(4, 3, stride = stride, padding = 1)
            if stride > 1 { x = x -> down: conv2d(4, 1, stride = stride) }
            output (x + y) -> relu
        }
        model net {
            input x: f32[N, 4, 8, 8]
            output y = x -> a: Residual(1) -> b: Residual(2) -> c: Residual(1)
        }
        """,
        """\
block Residual {
    input x

    y = x -> conv: conv2d(4, 3, padding = 1)
    output x + y -> relu
}

block ResidualWithDown {
    input x

    y = x -> conv: conv2d(4, 3, stride = 2, padding = 1)
    x = x -> down: conv2d(4, 1, stride = 2)

    output x + y -> relu
}

model net {
    input x: f32[N, 4, 8, 8]
    output y: f32[N, 4, 4, 4] = x -> a: Residual -> b: ResidualWithDown -> c: Residual
}
""",
    ),
    "a block calls sizes as its inputs do": (
        """
        block Positions { input x: f32[S, T, D]  output x + (arange(T) -> table: embedding(9, D)) }
        model m {
            input x: f32[N, S <= 9, 4]
            input y: f32[N, T <= 9, 4]
            output a = x -> p: Positions
            output b = y -> q: Positions
        }
        """,
        """\
block Positions {
    input x: f32[S, T, D]
    output x + (arange(T) -> table: embedding(9, 4))
}

model m {
    input x: f32[N, S <= 9, 4]
    input y: f32[N, T <= 9, 4]
    output a: f32[N, S, 4] = x -> p: Positions
    output b: f32[N, T, 4] = y -> q: Positions
}
""",
    ),
    "a size that a block cannot read off its inputs is handed to it": (
        """
        block Halves {
            input x: f32[B, 2 * T, D]
            output (x -> reshape((B, 2, T, D)) -> mean(1)) + (arange(T) -> table: embedding(9, D))
        }
        model m {
            input x: f32[N, 2 * S, 4]
            input y: f32[N, 2 * T, 4]
            output a = x -> p: Halves
            output b = y -> q: Halves
        }
        """,
        """\
block Halves(B, T) {
    input x
    output (x -> reshape((B, 2, T, 4)) -> mean(dim = 1)) + (arange(T) -> table: embedding(9, 4))
}

model m {
    input x: f32[N, 2 * S, 4]
    input y: f32[N, 2 * T, 4]
    output a: f32[N, S, 4] = x -> p: Halves(B = N, T = S)
    output b: f32[N, T, 4] = y -> q: Halves(B = N, T = T)
}
""",
    ),
    "a size that only the model has a name for is handed to a block": (
        """
        block Rows(length) { input x: f32[N, D]  output x + ((arange(length) -> table: embedding(9, D)) -> mean(0)) }
        model m {
            input x: f32[N, 4]
            input y: f32[N, T, 4]
            output a = (x -> p: Rows(T)) + (y -> mean(1))
        }
        """,
        """\
block Rows(length) {
    input x: f32[N, D]
    output x + (arange(length) -> table: embedding(9, 4) -> mean(dim = 0))
}

model m {
    input x: f32[N, 4]
    input y: f32[N, T, 4]
    output a: f32[N, 4] = (x -> p: Rows(T)) + (y -> mean(dim = 1))
}
""",
    ),
    "a layer whose uses have different sizes": (
        """
        block Pool { input x: f32[N, C, D]  output x -> fc: linear(D) -> mean(1) }
        model m { input x: f32[N, 3, 8]  input y: f32[N, 5, 8]  layer p = Pool  output z = (x -> p) + (y -> p) }
        """,
        """\
block Pool {
    input x
    output x -> fc: linear(8) -> mean(dim = 1)
}

model m {
    input x: f32[N, 3, 8]
    input y: f32[N, 5, 8]
    layer p = Pool
    output z: f32[N, 8] = (x -> p) + (y -> p)
}
""",
    ),
}
"""Source texts with the printed texts of their graphs."""

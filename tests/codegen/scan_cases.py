"""Texts with a `scan`, each for one construct in or around the scan."""

from __future__ import annotations

RECURRENT = """block Recurrent(hidden) {
        input x: f32[B, T, D]
        scan x_t in x, h = zeros((B, hidden)) {
            h = (x_t -> i: linear(hidden)) + (h -> r: linear(hidden)) -> tanh
            yield y = h
        }
        output y
    }
"""

ELMAN = """model elman(hidden = 6, classes = 3) {
    input x: f32[B, T, 4]
    scan x_t in x, h = zeros((B, hidden)) {
        h = (x_t -> w_xh: linear(hidden)) + (h -> w_hh: linear(hidden, bias = false)) -> tanh
        yield y = h -> w_hy: linear(classes)
    }
    output last = h
    output y
}
"""

TEXTS = {
    "elman": ELMAN,
    "a fixed number of steps": ELMAN.replace("[B, T, 4]", "[B, 5, 4]"),
    "one step": ELMAN.replace("[B, T, 4]", "[B, 1, 4]"),
    "no state": """model m {
        input x: f32[B, T, 4]
        scan x_t in x { yield y = x_t -> fc: linear(3) }
        output y
    }""",
    "no yield": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) { h = h * 0.5 + x_t }
        output h
    }""",
    "several sequences and states": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, T]
        input ids: i64[B, T]
        scan x_t in x, z_t in z, i in ids, h = zeros((B, 4)), s = zeros((B,)) {
            h = h * 0.5 + x_t + (i -> e: embedding(7, 4))
            s = s + z_t
            yield a = h -> fc: linear(2)
            yield b = s
            yield c = s + z_t
        }
        output a
        output b
        output c
        output h
        output s
    }""",
    "a state that stays": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)), c = ones((B, 4)) {
            h = h + x_t * c
            yield y = h
        }
        output y
        output c
    }""",
    "states that swap": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, a = zeros((B, 4)), b = ones((B, 4)) {
            t = a + x_t
            a = b
            b = t
            yield y = a - b
        }
        output y
        output a
        output b
    }""",
    "states that rotate": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, a = zeros((B, 4)), b = ones((B, 4)), c = zeros((B, 4)) {
            old = c
            c = b
            b = a
            a = old + x_t
            yield y = a + b * c
        }
        output y
        output c
    }""",
    "a state that becomes an element of the sequence": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, before = zeros((B, 4)) {
            yield difference = x_t - before
            before = x_t
        }
        output difference
        output before
    }""",
    "a state that becomes an outer value": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, 4]
        scan x_t in x, h = zeros((B, 4)) {
            yield y = h + x_t
            h = z
        }
        output y
        output h
    }""",
    "the old value of a state is read after the new one": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            old = h
            h = (x_t -> fc: linear(4)) + h -> tanh
            yield change = h - old
        }
        output change
    }""",
    "a yield of the state before the step": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            yield before = h
            h = h + x_t
        }
        output before
        output after = h
    }""",
    "a yield of an element of the sequence": """model m {
        input x: f32[B, T, 4]
        scan x_t in x { yield y = x_t }
        output z = y * 2
    }""",
    "one tensor in two yields": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            h = h + x_t
            yield a = h
            yield b = h
        }
        output a
        output z = b * 2
    }""",
    "one sequence twice": """model m {
        input x: f32[B, T, 4]
        scan a in x, b in x { yield y = (a -> tanh) * b }
        output y
    }""",
    "two states that begin alike": """model m {
        input x: f32[B, T, 4]
        input h0: f32[B, 4]
        scan x_t in x, h = h0, g = h0 {
            h = h + x_t
            g = g - x_t
        }
        output h
        output g
        output z = h0 * 2
    }""",
    "values from outside": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, 4]
        scale = z -> tanh
        scan x_t in x, h = zeros((B, 4)) {
            h = h * scale + x_t + (z -> fc: linear(4) -> relu)
            yield y = h + (scale -> exp)
        }
        output y
    }""",
    "a value from outside that is read later too": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, 4]
        scan x_t in x, h = z {
            shift = z -> fc: linear(4) -> relu
            h = h * 0.5 + x_t + shift
        }
        output y = h + (z -> tanh)
    }""",
    "a block in a step": """block Cell(hidden) {
        input x
        input h
        output (x -> i: linear(hidden)) + (h -> r: linear(hidden, bias = false)) -> tanh
    }
    model m(hidden = 5) {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, hidden)) {
            h = (x_t, h) -> cell: Cell(hidden)
            yield y = h
        }
        output y
    }""",
    "a block that is one step of two states": """block Cell(hidden) {
        input x
        input h
        input c
        i, f, g, o = (x -> w: linear(4 * hidden)) + (h -> u: linear(4 * hidden, bias = false)) -> split(hidden, dim = 1)
        c = (f -> sigmoid) * c + (i -> sigmoid) * (g -> tanh)
        output c
        output (o -> sigmoid) * (c -> tanh)
    }
    model m(hidden = 5) {
        input x: f32[B, T, 4]
        scan x_t in x, c = zeros((B, hidden)), h = zeros((B, hidden)) {
            c, h = (x_t, h, c) -> cell: Cell(hidden)
            yield y = h
        }
        output y
        output c
    }""",
    "a scan in a block that is used twice": RECURRENT
    + """    model m {
        input x: f32[B, T, 4]
        output y = x -> first: Recurrent(5) -> second: Recurrent(6)
    }""",
    "a layer with a scan that is used twice": RECURRENT
    + """    model m {
        input x: f32[B, T, 4]
        input z: f32[B, S, 4]
        layer shared = Recurrent(5)
        output y = x -> shared
        output w = z -> shared
    }""",
    "a scan in a block in a loop": """block Recurrent {
        input x: f32[B, T, D]
        scan x_t in x, h = zeros((B, D)) {
            h = (x_t -> i: linear(D)) + (h -> r: linear(D)) -> tanh
            yield y = h
        }
        output x + y
    }
    model m {
        input x: f32[B, T, 4]
        for i in 0..3 { x = x -> rnn[i]: Recurrent }
        output y = x
    }""",
    "a scan in a loop": """model m {
        input x: f32[B, T, 4]
        for i in 0..3 {
            scan x_t in x, h = zeros((B, 4)) {
                h = (x_t -> w[i]: linear(4)) + (h -> u[i]: linear(4)) -> tanh
                yield y = h
            }
            x = x + y
        }
        output x
    }""",
    "a loop in a scan": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            z = x_t + h
            for i in 0..3 { z = z -> fc[i]: linear(4) -> tanh }
            h = z
            yield y = z
        }
        output y
    }""",
    "a loop of blocks in a scan": """block Cell {
        input x: f32[B, D]
        output x -> a: linear(D) -> tanh
    }
    model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            for i in 0..3 { h = x_t + h -> cell[i]: Cell }
            yield y = h
        }
        output y
    }""",
    "a scan in a scan": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, S, 3]
        scan x_t in x, h = zeros((B, 4)) {
            scan z_s in z, g = h {
                g = (z_s -> w: linear(4)) + (g -> u: linear(4)) + x_t -> tanh
                yield all = g
            }
            h = g * 0.5
            yield y = all -> mean(1)
        }
        output y
        output h
    }""",
    "a scan over the result of another scan": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            h = h * 0.5 + x_t
            yield y = h
        }
        scan y_t in y, g = h {
            g = g * 0.5 + y_t
            yield z = g
        }
        output z
        output y
    }""",
    "two scans with nothing in common": """model m {
        input x: f32[B, T, 4]
        input z: f32[B, S, 3]
        scan x_t in x, h = zeros((B, 4)) { h = h * 0.5 + x_t }
        scan z_t in z, g = zeros((B, 3)) { g = g * 0.5 + z_t }
        output h
        output g
    }""",
    "tied weights in a step": """model m {
        input tokens: i64[B, T]
        layer wte = embedding(7, 5)
        e = tokens -> wte
        scan e_t in e, h = zeros((B, 5)) {
            h = (e_t -> w: linear(5)) + (h -> u: linear(5, weight = w.weight)) -> tanh
            yield logits = h -> head: linear(7, bias = false, weight = wte.weight)
        }
        output logits
    }""",
    "dropout in a step": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            h = h + x_t -> dropout(0.3) -> w: linear(4) -> dropout(0.3) -> tanh
            yield y = h
        }
        output y
    }""",
    "batch norm in a step": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            h = h + x_t -> w: linear(4) -> bn: batch_norm -> tanh
            yield y = h
        }
        output y
    }""",
    "a yield of an outer value": """model m {
        input x: f32[B, T, 4]
        t = x -> mean(1) -> tanh
        scan x_t in x { yield y = t }
        scan x_t in x, s = t { s = s * 2  yield z = t }
        output a = y + z
    }""",
    "results that are not used": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)), unread = zeros((B, 2)) {
            h = h + x_t
            unread = unread + 1.0
            yield a = h -> fc: linear(2)
            yield b = h -> gc: linear(2)
        }
        output b
    }""",
    "only one result of two is read": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)), c = zeros((B, 4)) {
            h = h + x_t + c
            c = c + x_t
        }
        output h
    }""",
    "a scan over constants": """model m {
        input x: f32[B, 4]
        scan t in arange(5) -> rearrange("t -> 1 t"), h = x {
            h = h * 0.5 + (t -> e: embedding(5, 4))
            yield y = h
        }
        output y
    }""",
    "a sequence of numbers": """model m {
        input mask: f32[B, T]
        scan m in mask, total = zeros((B,)) {
            total = total + m
            yield sums = total
        }
        output sums
    }""",
    "integers and truth values": """model m {
        input tokens: i64[B, T]
        scan t in tokens, largest = zeros((B,), dtype = i64) {
            new = t > largest
            largest = (t, largest) -> maximum
            yield rises = new
            yield peak = largest
        }
        output rises
        output peak
    }""",
    "a name of the text in two meanings": """model m {
        input x: f32[B, T, 4]
        h = x -> mean(1)
        scan x in x, h = h {
            x = x -> tanh
            h = h + x
            yield y = x
        }
        output h
        output y
        output z = x -> relu
    }""",
    "an assignment within an if": """model m(gated = true) {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            new = x_t + h -> fc: linear(4) -> tanh
            if gated {
                z = x_t + h -> gate: linear(4) -> sigmoid
                new = z * new + (1 - z) * h
                yield gates = z
            }
            h = new
        }
        output h
        output gates
    }""",
    "a shared layer in and around a scan": """model m {
        input x: f32[B, T, 4]
        layer fc = linear(4)
        z = x -> fc
        scan z_t in z, h = zeros((B, 4)) {
            h = z_t + (h -> fc) -> tanh
            yield y = h
        }
        output y
    }""",
    "an operator over sizes in a step": """model m {
        input x: f32[B, T, 4]
        scan x_t in x, h = zeros((B, 4)) {
            h = h + x_t + ones((B, 4)) / T
            yield y = h
        }
        output y
    }""",
    "attention in a step": """model m {
        input x: f32[B, T, 4]
        input memory: f32[B, S, 4]
        scan x_t in x, h = zeros((B, 4)) {
            scores = (memory -> w: linear(3)) + (h -> u: linear(3) -> rearrange("b d -> b 1 d")) -> tanh -> v: linear(1)
            weights = scores -> softmax(dim = 1)
            context = weights * memory -> sum(1)
            h = context + x_t -> fc: linear(4) -> tanh
            yield y = h
            yield alignment = weights -> rearrange("b s 1 -> b s")
        }
        output y
        output alignment
    }""",
}
"""Texts by construct."""

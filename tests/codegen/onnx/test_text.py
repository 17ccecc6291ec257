"""Text of an ONNX model: one line for each weight and node, without the elements of weights."""

from __future__ import annotations

from archc.codegen.onnx import as_text, to_model
from archc.declaration.base import Operator, operator
from archc.declaration.spelling import OnnxSpelling
from archc.ops.linear import Embedding, Linear
from archc.types.storage import Int8
from archc.types.tensor_type import DType

from .cases import Halves, Model, N, T


@operator
class Fancy(Operator, abstract=True):
    """An operator of nodes with every kind of attribute and constant."""

    signature = "x[n, d] -> y[n, d]"

    def onnx(self, spell: OnnxSpelling) -> str:
        x = spell.add("LeakyRelu", spell.operands[0], alpha=0.1)
        x = spell.add("Add", x, spell.constant(0.1))
        x = spell.add("Mul", x, spell.constant([[1.0, 2.5]]))
        x = spell.add("Cast", spell.add("Cast", x, to=DType.f16), to=DType.f32)
        x = spell.add("Clip", x, "", spell.constant(3.0))
        x = spell.add("DepthToSpace", x, mode="CRD", blocksize=1)
        result: str = spell.add("Transpose", spell.add("Transpose", x, perm=[1, 0]), perm=(1, 0))
        return result


def test_the_text_of_a_model() -> None:
    model = Model("tied")
    tokens = model.input("tokens", N, T, dtype=DType.i64)
    x = model.add(Embedding(11, 4), tokens, name="wte")
    a, b = model.rewriter.add(Halves(3), [model.input("x", N, 6)]).results
    y = model.add(Linear(11, bias=False), x, name="head", weights={"weight": "wte.weight"})
    z = model.add(Linear(2), a, name="fc", storages={"weight": Int8(0)})
    assert as_text(model.done(y=y, z=z, rest=b)) == EXPECTED


EXPECTED = """\
onnx tied (opset 21)
input tokens: i64[N, T]
input x: f32[N, 6]
weight wte.weight: f32[11, 4]
weight fc.weight: i8[2, 3]
weight fc.weight_scale: f32[2]
weight fc.bias: f32[2]
wte = Gather(wte.weight, tokens, axis=0)
halves.0, rest = Split(x, axis=1, num_outputs=2)
wte.weight/T = Transpose(wte.weight, perm=[1, 0])
y = MatMul(wte, wte.weight/T)
fc.weight/Unsqueeze = Unsqueeze(fc.weight_scale, [1])
fc.weight/Cast = Cast(fc.weight, to=f32)
fc.weight/Mul = Mul(fc.weight/Cast, fc.weight/Unsqueeze)
z = Gemm(halves.0, fc.weight/Mul, fc.bias, transB=1)
output y: f32[N, T, 11]
output z: f32[N, 2]
output rest: f32[N, 3]
"""


def test_constants_and_attributes_are_shown_where_they_are_used() -> None:
    model = Model("fancy")
    text = as_text(model.done(y=model.add(Fancy(), model.input("x", N, 2))))
    assert text.splitlines()[2:-1] == [
        "fancy/LeakyRelu = LeakyRelu(x, alpha=0.1)",
        "fancy/Add = Add(fancy/LeakyRelu, 0.1)",
        "fancy/Mul = Mul(fancy/Add, [[1.0, 2.5]])",
        "fancy/Cast = Cast(fancy/Mul, to=f16)",
        "fancy/Cast_1 = Cast(fancy/Cast, to=f32)",
        "fancy/Clip = Clip(fancy/Cast_1, _, 3.0)",
        'fancy/DepthToSpace = DepthToSpace(fancy/Clip, blocksize=1, mode="CRD")',
        "fancy/Transpose = Transpose(fancy/DepthToSpace, perm=[1, 0])",
        "y = Transpose(fancy/Transpose, perm=[1, 0])",
    ]


def test_a_graph_and_its_model_have_one_text() -> None:
    model = Model("net")
    graph = model.done(y=model.add(Linear(2), model.input("x", N, 3), name="fc"))
    assert as_text(graph) == as_text(to_model(graph))

"""Transformer layers of the library with options that no spec uses, compared with torch.nn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.specs.named import Reference, named_twins

BATCH, LENGTH, SOURCE = 3, 6, 8
SIZES = {"d_model": 24, "nhead": 4, "dim_feedforward": 40, "batch_first": True}
UNSEEN = torch.ones(LENGTH, LENGTH).triu(1).bool()  # True means masked in torch.nn
MASK = torch.arange(SOURCE) < torch.tensor([[8], [5], [3]])


def stack(name: str, layer: nn.Module) -> nn.Module:
    """Wrap a layer so that it has the name of the first layer of a stack in torch.nn.Transformer."""
    module = nn.Module()
    module.transformer = nn.ModuleDict({name: nn.ModuleDict({"layers": nn.ModuleList([layer])})})
    return module


def numbers(length: int, seed: int) -> Tensor:
    return torch.randn((BATCH, length, 24), generator=torch.Generator().manual_seed(seed))


CASES = {
    "pre-norm, with a mask": (
        """input x: f32[N, S, 24]  input mask: bool[N, S]
        output y = (x, mask -> rearrange("n s -> n 1 1 s")) -> encoder[0]: tr.PreNormLayer(4, 40, relu)""",
        "encoder",
        nn.TransformerEncoderLayer(**SIZES, norm_first=True),
        lambda layer, x, mask: layer(x, src_key_padding_mask=~mask),
        (numbers(SOURCE, 0), MASK),
    ),
    "post-norm, causal and without a mask": (
        """input x: f32[N, T, 24]
        output y = x -> encoder[0]: tr.PostNormLayer(4, 40, causal = true)""",
        "encoder",
        nn.TransformerEncoderLayer(**SIZES, activation="gelu"),
        lambda layer, x: layer(x, src_mask=UNSEEN),
        (numbers(LENGTH, 0),),
    ),
    "a decoder's, pre-norm, with a mask": (
        """input x: f32[N, T, 24]  input memory: f32[N, S, 24]  input mask: bool[N, S]
        seen = mask -> rearrange("n s -> n 1 1 s")
        output y = (x, memory, seen) -> decoder[0]: tr.PreNormDecoderLayer(4, 40, relu)""",
        "decoder",
        nn.TransformerDecoderLayer(**SIZES, norm_first=True),
        lambda layer, x, memory, mask: layer(x, memory, tgt_mask=UNSEEN, memory_key_padding_mask=~mask),
        (numbers(LENGTH, 0), numbers(SOURCE, 1), MASK),
    ),
    "a decoder's, post-norm, without a mask": (
        """input x: f32[N, T, 24]  input memory: f32[N, S, 24]
        output y = (x, memory) -> decoder[0]: tr.PostNormDecoderLayer(4, 40)""",
        "decoder",
        nn.TransformerDecoderLayer(**SIZES, activation="gelu"),
        lambda layer, x, memory: layer(x, memory, tgt_mask=UNSEEN),
        (numbers(LENGTH, 0), numbers(SOURCE, 1)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_computes_what_that_of_torch_does(case: str, tmp_path: Path) -> None:
    body, name, layer, call, inputs = CASES[case]
    text = f'import "std/transformer.arch" as tr\nmodel m {{ {body} }}'
    reference = Reference(stack(name, layer), lambda model, *given: call(layer, *given))
    named_twins(text, {}, reference, inputs, tmp_path, "transformer").agree(*inputs)

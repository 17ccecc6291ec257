"""Transformer specs, compared with independent implementations with seeded weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.gpt2 import modeling_gpt2

import archc
from archc.analysis.cost import cost
from tests.specs import attentive
from tests.specs.named import Reference, named_twins, renamed
from tests.specs.siblings import SPECS, sibling
from tests.specs.twins import TOLERANCE, Twins

VOCABULARY = 50


def tokens(batch: int, length: int, below: int = VOCABULARY, seed: int = 0) -> Tensor:
    return torch.randint(below, (batch, length), generator=torch.Generator().manual_seed(seed))


def mask(batch: int, length: int) -> Tensor:
    """Return the mask of texts of different lengths; the first text has no padding."""
    return torch.arange(length) < length - torch.arange(batch)[:, None]


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def ended(text: Tensor) -> Tensor:
    """Replace the last tokens of each text by the end token; the length differs between texts."""
    places = torch.arange(text.shape[1]) >= text.shape[1] - 1 - torch.arange(text.shape[0])[:, None]
    return text.clamp(max=VOCABULARY - 2).masked_fill(places, VOCABULARY - 1)


@dataclass(frozen=True)
class Case:
    """Small model of a spec, and its reference.

    Attributes:
        build: builds the reference from the attribute values of `sibling`.
        inputs: two sets of inputs with different batch sizes and lengths.
        names: name of the map, if it differs from the name of the spec.
    """

    spec: str
    build: Callable[..., Reference]
    inputs: Sequence[tuple[Tensor, ...]]
    names: str = ""

    def twins(self, folder: Path) -> Twins:
        spec = SPECS / f"{self.spec}.arch"
        values = sibling(spec)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return named_twins(spec, values, self.build(**values), self.inputs[0], folder, self.names or self.spec)


TEXTS = ((3, 12), (2, 7))

CASES = [
    Case("bert", attentive.bert, [(tokens(*text), tokens(*text, 2, seed=1), mask(*text)) for text in TEXTS]),
    Case("minilm", attentive.minilm, [(tokens(*text), mask(*text)) for text in TEXTS]),
    Case("gpt2", attentive.gpt2, [(tokens(*text),) for text in TEXTS]),
    Case("llama", attentive.llama, [(tokens(*text),) for text in TEXTS]),
    Case("vit", attentive.vit, [(numbers(batch, 3, 32, 32),) for batch in (3, 2)]),
    Case("clip", attentive.clip, [(numbers(4, 3, 32, 32), ended(tokens(*text))) for text in TEXTS]),
    Case("whisper", attentive.whisper, [(numbers(text[0], 8, 40), tokens(*text)) for text in TEXTS]),
    Case(
        "transformer",
        attentive.transformer,
        [(tokens(n, s), mask(n, s), tokens(n, t, seed=1)) for n, s, t in ((3, 12, 9), (2, 7, 11))],
    ),
    Case(
        "resnet18",
        lambda **values: attentive.resnet("basic", depths=(2, 2, 2, 2), **values),
        [(numbers(4, 3, 64, 64),), (numbers(2, 3, 96, 73),)],
        names="resnet",
    ),
    Case(
        "resnet50",
        lambda **values: attentive.resnet("bottleneck", **values),
        [(numbers(4, 3, 64, 64),), (numbers(2, 3, 96, 73),)],
        names="resnet",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec)
def test_a_spec_computes_what_its_reference_does(case: Case, tmp_path: Path) -> None:
    both = case.twins(tmp_path)
    for inputs in case.inputs:
        both.agree(*inputs)


DROPPING = [case for case in CASES if case.spec not in ("transformer", "resnet18", "resnet50")]


@pytest.mark.parametrize("case", DROPPING, ids=lambda case: case.spec)
def test_a_spec_has_the_dropouts_of_its_reference(case: Case, tmp_path: Path) -> None:
    """With equal seeds, a spec and its reference have equal outputs in training mode.

    The spec `transformer` is left out: unlike the paper, torch.nn has a dropout between the two dense layers.
    """
    both = case.twins(tmp_path)
    inputs = case.inputs[0]
    results = []
    for model, trains in ((both.reference, True), (both.module, True), (both.module, False)):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(5)
            given = model.train(trains)(*inputs)
        results.append(given if isinstance(given, tuple) else (given,))
    for wanted, found, calm in zip(*results, strict=True):
        assert (found - wanted).abs().max() <= TOLERANCE * wanted.abs().max()
        drops = case.spec in ("bert", "minilm", "gpt2")
        assert ((calm - wanted).abs().max() > 0.1 * wanted.abs().max()) or not drops


def test_the_gradients_of_a_spec_are_those_of_its_reference(tmp_path: Path) -> None:
    """Gradients agree, including that of the weight that the first and last layers share."""
    both = next(case for case in CASES if case.spec == "gpt2").twins(tmp_path)
    text = tokens(3, 9, seed=7)
    for model in (both.reference, both.module):
        logits = model(text[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()).backward()
    own = dict(both.reference.model.named_parameters())
    wanted = renamed({name: parameter.grad for name, parameter in own.items()}, both, tmp_path, "gpt2")
    found = {path: parameter.grad for path, parameter in both.module.named_parameters()}
    assert found.keys() == wanted.keys()
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for path, gradient in wanted.items():
        # Softmax cancels a bias of the keys, so its gradient is zero up to rounding.
        scale = largest if path.endswith("key.bias") else gradient.abs().max()
        assert scale > 0
        assert (found[path] - gradient).abs().max() <= TOLERANCE * scale, path


def test_a_map_holds_with_and_without_the_prefix(tmp_path: Path) -> None:
    """Names with and without the prefix `transformer.` are mapped; the published GPT-2 has none."""
    both = next(case for case in CASES if case.spec == "gpt2").twins(tmp_path)
    own = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in own.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)  # a mask, which older files store as a weight
    assert not bare.keys() & own.keys()
    expected, found = renamed(own, both, tmp_path, "gpt2"), renamed(bare, both, tmp_path, "gpt2")
    assert expected.keys() == both.graph.weights.keys() == found.keys()
    assert all(torch.equal(found[path], tensor) for path, tensor in expected.items())


def test_the_code_of_gpt2_has_a_class_for_each_block_and_one_list_of_layers() -> None:
    source = archc.compile(SPECS / "gpt2.arch").sources()["gpt2.py"]
    classes = re.findall(r"^class (\w+)", source, re.MULTILINE)
    assert sorted(classes[:-1]) == ["FeedForward", "Learned", "PreNormLayer", "SelfAttention", "TanhGELU"]
    assert source.count("nn.ModuleList(") == 1
    assert len(source.splitlines()) < len(inspect.getsource(modeling_gpt2).splitlines()) / 5


PUBLISHED = {
    "bert": {"bert": 109_482_240, "bert_large": 335_141_888},
    "minilm": {"minilm": 22_713_216 - 384 * 385},  # without the pooler, which the sentence vectors do not use
    "gpt2": {
        "gpt2": 124_439_808,
        "gpt2_medium": 354_823_168,
        "gpt2_large": 774_030_080,
        "gpt2_xl": 1_557_611_200,
    },
    "llama": {"llama": 6_738_415_616, "llama3_8b": 8_030_261_248},
    "vit": {"vit": 86_567_656, "vit_large": 304_326_632},
    "clip": {"clip": 151_277_313},
    "whisper": {"whisper": 72_593_920, "whisper_tiny": 37_760_640},
}
"""The parameters of published weights, by spec and model."""


@pytest.mark.parametrize(("spec", "model"), [(spec, model) for spec, models in PUBLISHED.items() for model in models])
def test_a_spec_has_the_published_number_of_parameters(spec: str, model: str) -> None:
    assert cost(archc.parse(SPECS / f"{spec}.arch", model)).parameters == PUBLISHED[spec][model]


@pytest.mark.parametrize(("model", "heads"), [("transformer", 8), ("transformer_big", 16)])
def test_the_translator_has_as_many_parameters_as_its_reference(model: str, heads: int) -> None:
    """Numbers of parameters agree; the paper says 65 and 213 million for a similar vocabulary."""
    with torch.device("meta"):
        reference = attentive.Translator(37_000, 64 * heads, 6, heads, 256 * heads)
    expected = sum(parameter.numel() for parameter in reference.parameters())
    assert cost(archc.parse(SPECS / "transformer.arch", model)).parameters == expected

"""Recurrent specs, compared with torch.nn, with formulas in float64, and with a trained model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import archc
from archc.codegen import onnx
from archc.codegen.torch.load import load_module
from archc.declaration.registry import OPERATORS
from tests.specs.named import NAMES
from tests.specs.packages import folder_of
from tests.specs.recurrent import Array, Classifier, Elman, SpeechRecognizer, Tagger, Weight, in_double, translate
from tests.specs.siblings import SPECS, sibling
from tests.specs.twins import TOLERANCE, Twins, assert_close, assert_same_gradients, settle, twins

Shape = tuple[int, ...]


def small(spec: str) -> dict[str, Any]:
    return dict(sibling(SPECS / f"{spec}.arch"))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(*shape: int, count: int = 50, seed: int = 0) -> Tensor:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


# Layers -------------------------------------------------------------------------------------------------------

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("spec", "reference"), [("text_classifier", Classifier), ("tagger", Tagger)])
def test_classifier_and_tagger_agree_with_torch(
    spec: str, reference: Callable[..., nn.Module], cell: str, tmp_path: Path
) -> None:
    values = small(spec)
    both = twins(
        SPECS / f"{spec}.arch",
        {**values, "cell": OPERATORS[cell]},
        reference(CELLS[cell], **values),
        [words(4, 9), torch.tensor([9, 2, 5, 1])],
        tmp_path,
    )
    for lengths in ([9, 2, 5, 1], [1, 1], [3, 11, 14], [14, 14]):
        both.agree(words(len(lengths), max(lengths), seed=sum(lengths)), torch.tensor(lengths))


@pytest.mark.parametrize("spec", ["text_classifier", "tagger"])
def test_padding_does_not_change_the_outputs(spec: str, tmp_path: Path) -> None:
    archc.compile(SPECS / f"{spec}.arch", values=small(spec)).write(tmp_path, emit=("torch",))
    model = load_module(tmp_path / f"{spec}.py").load()
    tokens, lengths = words(3, 8), torch.tensor([5, 3, 8])
    with torch.no_grad():
        together = model(tokens, lengths)
        for row, length in enumerate(lengths):
            alone = model(tokens[row : row + 1, :length], lengths[row : row + 1])[0]
            assert_close(spec, together[row, :length] if spec == "tagger" else together[row], alone)


FRAMES = torch.tensor([20, 7, 1, 13])
"""Lengths of four utterances in frames after the convolutions, which halve the 40 frames of the input."""


@pytest.mark.parametrize("cell", CELLS)
def test_cells_have_the_gradients_of_torch(cell: str, tmp_path: Path) -> None:
    values = small("tagger")
    spec, reference = SPECS / "tagger.arch", Tagger(CELLS[cell], **values)
    inputs = [words(4, 9), torch.tensor([9, 2, 5, 1])]
    both = twins(spec, {**values, "cell": OPERATORS[cell], "dropout": 0.0}, reference, inputs, tmp_path)
    tags = torch.arange(36) % 5
    assert_same_gradients(both, inputs, lambda y: nn.functional.cross_entropy(y.flatten(0, 1), tags))


def speech(folder: Path) -> Twins:
    values = small("speech_recognizer")
    spec = SPECS / "speech_recognizer.arch"
    return twins(spec, values, SpeechRecognizer(**values), [noise(4, 1, values["bands"], 40), FRAMES], folder)


def test_the_speech_recognizer_agrees_with_torch(tmp_path: Path) -> None:
    both = speech(tmp_path)
    both.agree(noise(4, 1, 17, 40, seed=4), FRAMES)
    both.agree(noise(2, 1, 17, 33, seed=2), torch.tensor([11, 17]))


def test_training_with_ctc_has_the_gradients_of_torch(tmp_path: Path) -> None:
    both = speech(tmp_path)
    spectrogram, text = noise(3, 1, 17, 50, seed=7), 1 + words(3, 6, count=5)
    lengths = torch.tensor([25, 9, 18]), torch.tensor([6, 4, 5])
    assert_same_gradients(
        both, [spectrogram, lengths[0]], lambda y: nn.functional.ctc_loss(y.transpose(0, 1), text, *lengths)
    )


# Elman --------------------------------------------------------------------------------------------------------


def elman(folder: Path) -> Twins:
    values = small("elman")
    reference = Elman(**values)
    settle(reference, [noise(4, 9, values["features"])])
    with torch.no_grad():
        reference.rnn.bias_hh_l0.zero_()
    paths = {
        "w_xh.weight": "rnn.weight_ih_l0",
        "w_xh.bias": "rnn.bias_ih_l0",
        "w_hh.weight": "rnn.weight_hh_l0",
        "w_hy.weight": "head.weight",
        "w_hy.bias": "head.bias",
    }
    own = reference.state_dict()
    save_file({path: own[name].clone() for path, name in paths.items()}, folder / "weights.safetensors")
    return compiled("elman", values, reference, paths, folder)


def compiled(
    spec: str, values: Mapping[str, Any], reference: nn.Module, paths: Mapping[str, str], folder: Path
) -> Twins:
    """Compile a spec with the weights in the folder."""
    made = archc.compile(SPECS / f"{spec}.arch", values=values, weights=folder / "weights.safetensors")
    made.write(folder, emit=("torch", "onnx"))
    module = load_module(folder / f"{made.name}.py").load()
    return Twins(reference, module, folder / f"{made.name}.onnx", made.graph, paths)


def test_elman_is_a_recurrent_layer_of_torch(tmp_path: Path) -> None:
    both = elman(tmp_path)
    for batch, steps in ((4, 9), (2, 1), (3, 30)):
        both.agree(noise(batch, steps, 5, seed=steps))


def test_elman_has_the_gradients_of_torch(tmp_path: Path) -> None:
    both = elman(tmp_path)
    x = noise(4, 9, 5, seed=3)
    tags = torch.arange(36) % 3
    assert_same_gradients(
        both, [x], lambda y, last: nn.functional.cross_entropy(y.flatten(0, 1), tags) + (last**2).sum()
    )


# The translator -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Translator:
    """Emitted programs of the translator, and weights that are large enough to change the outputs."""

    depth: int
    module: nn.Module
    onnx_file: Path
    weights: dict[str, Tensor]

    def by_the_formulas(self, weight: Weight, source: Tensor, target: Tensor) -> tuple[Array, Array]:
        """Compute the logits and the alignments of a batch from the formulas."""
        sentences = zip(source.numpy(), target.numpy(), strict=True)
        logits, alignments = zip(*(translate(weight, s, t, hidden=8, depth=self.depth) for s, t in sentences))
        return np.stack(logits), np.stack(alignments)


@pytest.fixture(scope="module", params=[1, 2])
def translator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Translator:
    folder = tmp_path_factory.mktemp("translator")
    values = {**small("translator"), "depth": request.param}
    graph = archc.parse(SPECS / "translator.arch", values=values)
    weights = {
        path: noise(*weight.shape, seed=number) * 1.5 / weight.shape[-1] ** 0.5
        for number, (path, weight) in enumerate(graph.weights.items())
    }
    save_file(weights, folder / "weights.safetensors")
    both = compiled("translator", values, nn.Identity(), {}, folder)
    return Translator(request.param, both.module, both.onnx_file, weights)


@pytest.mark.parametrize(("batch", "source_length", "target_length"), [(3, 7, 5), (2, 4, 9), (1, 1, 1)])
def test_a_translation_follows_the_formulas(
    translator: Translator, batch: int, source_length: int, target_length: int
) -> None:
    source, target = words(batch, source_length, count=40), words(batch, target_length, count=30, seed=1)
    expected = translator.by_the_formulas(in_double(translator.weights), source, target)
    wanted = dict(zip(("logits", "alignment"), map(torch.from_numpy, expected)))
    with torch.no_grad():
        found = dict(zip(wanted, translator.module.eval()(source, target), strict=True))
    arrays = onnx.run(translator.onnx_file, {"source": source.numpy(), "target": target.numpy()})
    for name, tensor in wanted.items():
        assert_close(name, found[name].double(), tensor)
        assert_close(name, torch.from_numpy(arrays[name]).double(), tensor)
    if source_length > 1:
        alignment = wanted["alignment"]
        assert torch.allclose(alignment.sum(2), torch.ones(1, dtype=torch.float64))
        assert alignment.std(1).max() > 0.01, "it looks elsewhere in each step"


def test_a_translation_has_the_gradients_of_the_formulas(translator: Translator) -> None:
    """The gradient of each parameter agrees, along a random direction, with differences of the formulas."""
    source, target = words(2, 4, count=40, seed=2), words(2, 3, count=30, seed=3)
    goals = noise(2, 3, 30, seed=4)
    own = in_double(translator.weights)

    def loss(path: str, direction: Tensor, step: float) -> float:
        moved = own(path) + step * direction.double().numpy()
        logits, _ = translator.by_the_formulas(lambda name: moved if name == path else own(name), source, target)
        return float((logits * goals.double().numpy()).sum())

    translator.module.zero_grad()
    (translator.module.train()(source, target)[0] * goals).sum().backward()
    for number, (path, parameter) in enumerate(translator.module.named_parameters()):
        assert parameter.grad is not None
        direction = noise(*parameter.shape, seed=100 + number)
        wanted = (loss(path, direction, 1e-5) - loss(path, direction, -1e-5)) / 2e-5
        found = float((parameter.grad.double() * direction.double()).sum())
        length = float(parameter.grad.norm())
        assert length > 0, path
        assert abs(found - wanted) <= TOLERANCE * length, path


# The speaker encoder ------------------------------------------------------------------------------------------


RESEMBLYZER = folder_of("resemblyzer")
TRAINED = RESEMBLYZER / "pretrained.pt"


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Trained network of `resemblyzer`, imported without its module `audio`, which needs other packages."""
    package = ModuleType("resemblyzer")
    package.__path__ = [str(RESEMBLYZER)]
    for module in (package, ModuleType("resemblyzer.audio")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    package.audio = ModuleType("resemblyzer.audio")  # type: ignore[attr-defined]
    network: nn.Module = importlib.import_module("resemblyzer.voice_encoder").VoiceEncoder("cpu", verbose=False)
    return network.eval()


def test_the_speaker_encoder_agrees_with_resemblyzer(encoder: nn.Module, tmp_path: Path) -> None:
    spec, names = SPECS / "speaker_encoder.arch", NAMES / "speaker_encoder.names"
    made = archc.compile(spec, weights=TRAINED, allow_pickle=True, renaming=names)
    made.write(tmp_path, emit=("torch", "onnx"))
    module = load_module(tmp_path / "speaker_encoder.py").load()
    both = Twins(encoder, module, tmp_path / "speaker_encoder.onnx", made.graph, {})
    for batch, frames in ((5, 160), (2, 37)):  # Resemblyzer divides utterances into parts of 160 frames
        mels = noise(batch, frames, 40, seed=batch).exp() * 0.1
        both.agree(mels)
        embedding = module(mels)
        assert torch.allclose(embedding.norm(dim=1), torch.ones(batch))

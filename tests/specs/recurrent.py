"""Reference recurrent networks: in torch.nn, or the formulas of the papers in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Array = NDArray[np.float64]
Weight = Callable[[str], Array]
"""Function that returns the weight at a path, in float64."""


class Elman(nn.Module):
    """Elman network: a recurrent layer, which has two biases in PyTorch, and a linear layer."""

    def __init__(self, features: int, hidden: int, classes: int):
        super().__init__()
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, last = self.rnn(x)
        return self.head(states), last[0]


class Classifier(nn.Module):
    """Text classifier: a linear layer on the state after the last word."""

    def __init__(self, cell: type[nn.RNNBase], vocab: int, width: int, hidden: int, classes: int):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.encoder = cell(width, hidden, 2, batch_first=True, dropout=0.5)
        self.head = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        _, last = self.encoder(packed(self.words(tokens), lengths))
        h = last[0] if isinstance(last, tuple) else last
        result: Tensor = self.head(h[-1])
        return result


class Tagger(nn.Module):
    """Bidirectional tagger: a tag for each word from the words before and after it."""

    def __init__(self, cell: type[nn.RNNBase], vocab: int, width: int, hidden: int, tags: int):
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.encoder = cell(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, tags)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.encoder(packed(self.words(tokens), lengths))
        result: Tensor = self.head(padded(states, tokens.shape[1]))
        return result


class SpeechRecognizer(nn.Module):
    """Deep Speech 2 of Amodei et al. 2016 (table 1, section 3.4), with two convolutions and GRUs."""

    def __init__(self, bands: int, channels: int, hidden: int, depth: int, symbols: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, (41, 11), (2, 2), (20, 5), bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardtanh(0, 20),
            nn.Conv2d(channels, channels, (21, 11), (2, 1), (10, 5), bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardtanh(0, 20),
        )
        left = -(-bands // 4)  # bands after two convolutions of stride 2
        self.encoder = nn.GRU(channels * left, hidden, depth, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, symbols)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        frames = self.features(spectrogram).flatten(1, 2).transpose(1, 2)
        states, _ = self.encoder(packed(frames, lengths))
        return torch.log_softmax(self.head(padded(states, frames.shape[1])), 2)


def packed(x: Tensor, lengths: Tensor) -> PackedSequence:
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def padded(states: PackedSequence, length: int) -> Tensor:
    return pad_packed_sequence(states, batch_first=True, total_length=length)[0]


# In float64 ---------------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    result: Array = e / e.sum()
    return result


def additive_attention(memory: Array, state: Array, weight: Weight) -> tuple[Array, Array]:
    """Compute the attention of Bahdanau et al. 2015, section 3.1.

    The scores are e_j = v · tanh(W_h h_j + W_s s + b); the context is the sum of the h_j, weighted by their softmax.
    Shapes: memory[s, d], state[h] -> context[d], weights[s].
    """
    scores = np.empty(len(memory))
    for place, h in enumerate(memory):
        inner = weight("w_h.weight") @ h + weight("look.w_s.weight") @ state + weight("w_h.bias")
        scores[place] = weight("look.v.weight")[0] @ np.tanh(inner)
    weights = softmax(scores)
    return sum((a * h for a, h in zip(weights, memory)), np.zeros(memory.shape[1])), weights


def gru_step(x: Array, h: Array, w: Array, u: Array, b: Array, c: Array) -> Array:
    """Compute a step of PyTorch's GRU, which applies the reset gate r after the product with the state.

    The rows of the matrices are those of r, of the update gate z and of the new state n.
    """
    (wr, wz, wn), (ur, uz, un) = np.split(w @ x + b, 3), np.split(u @ h + c, 3)
    z = sigmoid(wz + uz)
    return (1 - z) * np.tanh(wn + sigmoid(wr + ur) * un) + z * h


def encode(weight: Weight, source: NDArray[Any], hidden: int, depth: int) -> Array:
    """Compute the states of the bidirectional encoder for one sentence: source[s] -> [s, 2 hidden]."""
    memory = weight("source_words.weight")[source]
    for layer in range(depth):
        states = []
        for suffix, order in (("", range(len(source))), ("_reverse", range(len(source) - 1, -1, -1))):
            names = (f"encoder.{name}_l{layer}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            matrices = [weight(name) for name in names]
            h, found = np.zeros(hidden), np.empty((len(source), hidden))
            for place in order:
                h = found[place] = gru_step(memory[place], h, *matrices)
            states.append(found)
        memory = np.concatenate(states, axis=1)
    return memory


def translate(
    weight: Weight, source: NDArray[Any], target: NDArray[Any], hidden: int, depth: int = 1
) -> tuple[Array, Array]:
    """Compute the logits and alignments of one sentence: source[s], target[t] -> [t, vocab], [t, s]."""
    memory = encode(weight, source, hidden, depth)
    s = np.tanh(weight("w_0.weight") @ memory[0, hidden:] + weight("w_0.bias"))
    cell = [weight(f"decoder.{name}") for name in ("from_x.weight", "from_h.weight", "from_x.bias", "from_h.bias")]
    logits, alignments = [], []
    for number in target:
        word = weight("target_words.weight")[number]
        context, weights = additive_attention(memory, s, weight)
        s = gru_step(np.concatenate([word, context]), s, *cell)
        logits.append(weight("head.weight") @ np.concatenate([s, context, word]) + weight("head.bias"))
        alignments.append(weights)
    return np.stack(logits), np.stack(alignments)


def in_double(tensors: Mapping[str, Tensor]) -> Weight:
    """Return a function from paths to the weights of a state dict, in float64."""
    arrays = {path: tensor.double().numpy() for path, tensor in tensors.items()}
    return lambda path: arrays[path]

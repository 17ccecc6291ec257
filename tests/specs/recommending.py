"""Reference recommenders: formulas of the papers in float64, and a DeepFM in PyTorch.

The formulas use one-hot vectors and sums over all pairs.  The DeepFM in PyTorch gives gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tests.specs.recurrent import Array, Weight

Ids = NDArray[Any]


def one_hot(ids: Ids, vocab: int) -> list[Array]:
    """Return the one-hot vector of each field."""
    return [np.eye(vocab)[number] for number in ids]


def perceptron(x: Array, weight: Weight, path: str, depth: int) -> Array:
    for i in range(depth):
        x = np.maximum(0, weight(f"{path}.layers.{i}.weight") @ x + weight(f"{path}.layers.{i}.bias"))
    return x


def field_vectors(fields: Sequence[Array], table: Array) -> list[Array]:
    """Multiply the one-hot vector of each field by the rows of the table that belong to the field."""
    return [part.T @ x for x, part in zip(fields, np.split(table, len(fields)), strict=True)]


def pair_products(vectors: Sequence[Array]) -> float:
    """Compute Σ ⟨v_i, v_j⟩ over all i < j, as in Rendle 2010, equation 1."""
    return float(sum(one @ other for one, other in combinations(vectors, 2)))


def wide_deep(weight: Weight, values: Mapping[str, Any], ids: Ids, x: Array) -> Array:
    """Compute the logit w_wide · [x, φ(x)] + w_deep · a + b of Cheng et al. 2016, equation 3.

    φ (equation 1) has an element for each pair of values of two fields: the product of their one-hot elements.
    """
    fields = one_hot(ids, values["vocab"])
    wide = weight("weights.table.weight")[:, 0] @ np.concatenate(fields) + weight("linear.weight")[0] @ x
    for number, (one, other) in enumerate(values["crosses"]):
        wide += weight(f"cross.{number}.weight")[:, 0] @ np.outer(fields[one], fields[other]).ravel()
    a = np.concatenate([*field_vectors(fields, weight("vectors.table.weight")), x])
    a = perceptron(a, weight, "deep", len(values["hidden"]))
    return wide + weight("head.weight") @ a + weight("head.bias")


def deepfm(weight: Weight, values: Mapping[str, Any], ids: Ids, x: Array) -> Array:
    """Compute ⟨w, x⟩ + Σ ⟨V_i, V_j⟩ x_i x_j + MLP(V_i x_i), the logit of Guo et al. 2017, equation 1."""
    fields = one_hot(ids, values["vocab"])
    first = weight("weights.table.weight")[:, 0] @ np.concatenate(fields) + weight("linear.weight")[0] @ x
    vectors = field_vectors(fields, weight("embed.table.weight"))
    vectors += [number * v for number, v in zip(x, weight("scale.directions.weight"), strict=True)]
    a = perceptron(np.concatenate(vectors), weight, "deep", len(values["hidden"]))
    return first + pair_products(vectors) + weight("head.weight") @ a + weight("head.bias")


def tower(weight: Weight, values: Mapping[str, Any], path: str, x: Array, ids: Ids) -> Array:
    """Compute the vector of length 1 of a user or item, as in Yi et al. 2019, section 3."""
    fields = field_vectors(one_hot(ids, values["vocab"]), weight(f"{path}.fields.table.weight"))
    a = perceptron(np.concatenate([x, *fields]), weight, f"{path}.deep", len(values["hidden"]))
    u = weight(f"{path}.head.weight") @ a + weight(f"{path}.head.bias")
    return u / np.sqrt(u @ u)


def two_tower(
    weight: Weight, values: Mapping[str, Any], watched: Ids, mask: Ids, user: Ids, item: Ids, traits: Ids
) -> tuple[Array, Array, Array]:
    """Compute the vectors u of all users and v of all items, and ⟨u, v⟩ / τ for each user and item."""
    catalogue = weight("catalogue.weight")
    users, items = [], []
    for seen, real, ids in zip(watched, mask, user, strict=True):
        known = [catalogue[number] for number, there in zip(seen, real, strict=True) if there]
        history = np.mean(known, axis=0) if known else np.zeros(values["width"])
        users.append(tower(weight, values, "user_tower", history, ids))
    for number, ids in zip(item, traits, strict=True):
        items.append(tower(weight, values, "item_tower", catalogue[number], ids))
    return np.stack(users), np.stack(items), np.array([[u @ v / 0.05 for v in items] for u in users])


# In torch -----------------------------------------------------------------------------------------------------


class DeepFM(nn.Module):
    """DeepFM with a table for each field, and a sum over all pairs of fields."""

    def __init__(self, fields: int, numbers: int, vocab: int, width: int, hidden: Sequence[int]):
        super().__init__()
        self.w = nn.ModuleList(nn.EmbeddingBag(vocab, 1, mode="sum") for _ in range(fields))
        self.v = nn.ModuleList(nn.Embedding(vocab, width) for _ in range(fields))
        self.w_numbers = nn.Linear(numbers, 1, bias=False)
        self.v_numbers = nn.ParameterList(torch.zeros(width) for _ in range(numbers))
        sizes = [(fields + numbers) * width, *hidden]
        self.dense = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 1)

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        vectors = [embed(ids[:, number]) for number, embed in enumerate(self.v)]
        vectors += [x[:, number, None] * v for number, v in enumerate(self.v_numbers)]
        y = self.w_numbers(x)
        for number, weigh in enumerate(self.w):
            y = y + weigh(ids[:, number, None])
        for one, other in combinations(vectors, 2):
            y = y + torch.linalg.vecdot(one, other)[:, None]
        a = torch.cat(vectors, 1)
        for layer in self.dense:
            a = layer(a).clamp(min=0)
        result: Tensor = y + self.head(a)
        return result

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of the spec into this model."""
        own = self.by_path()
        with torch.no_grad():
            for path, tensors in own.items():
                for tensor, part in zip(tensors, weights[path].chunk(len(tensors)), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients by the paths of the spec."""
        found = {}
        for path, tensors in self.by_path().items():
            parts = [tensor.grad for tensor in tensors if tensor.grad is not None]
            assert len(parts) == len(tensors), path
            found[path] = torch.stack(parts) if path == "scale.directions.weight" else torch.cat(parts)
        return found

    def by_path(self) -> dict[str, list[Tensor]]:
        """Return, for each path of the spec, the parameters whose concatenation is the weight at that path."""
        own = {
            "weights.table.weight": [table.weight for table in self.w],
            "embed.table.weight": [table.weight for table in self.v],
            "linear.weight": [self.w_numbers.weight],
            "scale.directions.weight": list(self.v_numbers),
            "head.weight": [self.head.weight],
            "head.bias": [self.head.bias],
        }
        for number, layer in enumerate(self.dense):
            own |= {f"deep.layers.{number}.weight": [layer.weight], f"deep.layers.{number}.bias": [layer.bias]}
        return own


def batch_softmax(scores: Tensor) -> Tensor:
    """Compute the loss of Yi et al. 2019, section 3, without the correction for frequent items.

    The correct item of user i is item i.
    """
    return -F.log_softmax(scores, 1).diagonal().mean()

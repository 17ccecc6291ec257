"""Patterns of removed elements of a matrix, and the choice of the elements with the smallest scores."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from archc.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    import torch

BLOCK = 128
"""Number of columns whose removed elements are chosen together, if their number is a share.

(Frantar and Alistarh 2023, "SparseGPT", section 3.2.)
"""


@frozen_dataclass
class RemovedShare:
    """Removal of a share of the elements of a matrix.

    Attributes:
        share: share of the elements that are left from an earlier pruning, from 0 to 1.
    """

    share: float

    @property
    def width(self) -> int:
        """Number of columns whose removed elements are chosen together."""
        return BLOCK

    def kept(self, scores: torch.Tensor, left: torch.Tensor, before: int = 0) -> torch.Tensor:
        """Mask of the elements that stay: those with the largest scores.

        Args:
            scores: of the columns that are chosen together, [rows, columns].
            left: mask of the elements that are left from an earlier pruning.
            before: number of elements that are left in the columns before, so that rounding errors do not add up.
        """
        import torch

        size = int(left.sum())
        count = round(self.share * (before + size)) - round(self.share * before)
        order = torch.where(left, scores, torch.inf).flatten().argsort(stable=True)
        kept = left.flatten().clone()
        kept[order[:count]] = False
        return kept.view(left.shape)

    def rounds(self, count: int, left: int) -> list[RemovedShare]:
        """Removal in several rounds, in each of which the same share of the remaining elements goes.

        Args:
            left: number of elements that are left from an earlier pruning.
        """
        sizes = [left - round(left * (1 - (1 - self.share) ** (number / count))) for number in range(count + 1)]
        return [RemovedShare(1 - after / before) for before, after in pairwise(sizes) if after < before]

    def kept_of_rows(self, scores: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Mask of the elements that stay, for the same share of each row."""
        import torch

        return torch.stack([self.kept(*each) for each in zip(scores, left)]) if len(scores) else left


@frozen_dataclass
class KeptPattern:
    """Removal of all but `count` of each `of` consecutive elements of a row, such as 2:4.

    A shorter last group of a row also keeps `count` elements.
    """

    count: int
    of: int

    @property
    def width(self) -> int:
        """Number of columns whose removed elements are chosen together."""
        return self.of

    def kept(self, scores: torch.Tensor, left: torch.Tensor, before: int = 0) -> torch.Tensor:
        """Mask of the elements of one group that stay; see `RemovedShare.kept`."""
        import torch

        order = torch.where(left, scores, -torch.inf).argsort(dim=1, descending=True, stable=True)
        return torch.zeros_like(left).scatter_(1, order[:, : self.count], True) & left

    def rounds(self, count: int, left: int) -> list[KeptPattern]:
        """Removal in several rounds, from all elements of a group to `self.count`."""
        removed = dict.fromkeys(round((self.of - self.count) * number / count) for number in range(1, count + 1))
        return [KeptPattern(self.of - each, self.of) for each in removed if each]

    def kept_of_rows(self, scores: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Mask of the elements of all groups that stay."""
        import torch

        groups = [self.kept(*each) for each in zip(torch.split(scores, self.of, 1), torch.split(left, self.of, 1))]
        return torch.cat(groups, 1) if groups else left


Sparsity = RemovedShare | KeptPattern

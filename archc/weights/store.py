"""The weights of a model, by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archc.weights.tensor import LazyTensor


class Weights(Mapping[str, LazyTensor]):
    """Path to tensor (`blocks.3.attn.query.weight`), in the order of insertion.

    Only names and tensors that are yet to be read are held here, so that a pass that replaces one touches no other.
    """

    def __init__(self, tensors: Mapping[str, LazyTensor] | None = None):
        self._tensors: dict[str, LazyTensor] = dict(tensors or {})

    def __getitem__(self, path: str) -> LazyTensor:
        return self._tensors[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def set(self, path: str, tensor: LazyTensor) -> None:
        """Put a tensor at a path: at the end if the path is new, else in the place of the one that stood there."""
        self._tensors[path] = tensor

    def remove(self, path: str) -> LazyTensor:
        """Take a tensor out and return it.  Raises KeyError for an unknown path."""
        return self._tensors.pop(path)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def __repr__(self) -> str:
        return f"Weights({len(self)} tensors, {self.nbytes} bytes)"

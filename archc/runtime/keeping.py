"""Modules that cache values computed from their buffers, such as a decoded weight.

Other runtime modules import this file; the copies of their code in or beside programs
contain it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

__all__ = ["Keeping", "in_dynamo", "recorded"]


class Keeping(nn.Module):
    """A module that caches values computed from its buffers until a buffer changes."""

    if TYPE_CHECKING:
        _buffers: dict[str, Tensor]  # type: ignore[assignment]

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._forms: dict[Any, Any] = {}
        self._seen: list[tuple[str, Tensor, int | None]] = []

    def kept(self, form: Any, make: Callable[[], Any]) -> Any:
        """The cached value of key `form`, computed by `make` if it is missing."""
        if in_dynamo() or in_trace():  # `recorded` would be slower
            return make()
        buffers = self._buffers
        for name, buffer, version in self._seen:  # runs in every call of a layer
            now = buffers[name]
            if now is not buffer or version is not None and now._version != version:
                self._forms = {}
                break
        found = self._forms.get(form)
        if found is None:
            if recorded():  # `torch.export` replaces the buffers by new ones
                return make()
            if not self._forms:
                self._seen = [(name, b, version_of(b)) for name, b in buffers.items()]
            with torch.inference_mode(False), torch.no_grad():
                found = self._forms[form] = make()
        return found

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._forms = {}  # tensors made in inference mode do not count their changes

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_forms": {}, "_seen": []}  # the cache is not copied


def version_of(buffer: Tensor) -> int | None:
    """The number of changes to a buffer; None for tensors made in inference mode."""
    return None if buffer.is_inference() else buffer._version


# A layer calls these functions in every call, and a short name saves half their time.
in_dynamo = torch.compiler.is_dynamo_compiling
in_trace = torch._C._is_tracing


def recorded() -> bool:
    """Return whether torch records the operations for a program."""
    return torch.compiler.is_compiling() or in_trace()

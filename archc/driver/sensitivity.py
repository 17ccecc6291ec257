"""Sensitivity of the layers of a compiled model to the storage formats of their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

from archc.compression.quantization.layer_sensitivity import LayerSensitivity, layer_sensitivities, worst_first
from archc.compression.quantization.weight_formats import Format
from archc.diagnostics import silent
from archc.driver.arguments import names_of
from archc.driver.compilation import Compilation
from archc.driver.emission import needs_weights
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.failed_nodes import located
from archc.passmanager.calibration import Calibration
from archc.passmanager.effect_warnings import warn_of_random
from archc.passmanager.threads import one_thread

FORMATS: tuple[Format, ...] = ("int8", "int6", "int4", "int3", "int2", "f16", "bf16")
"""Formats by default."""
MEASURED = 3
"""Number of the worst layers that are measured by default."""
FILE = "file"
"""Value of `sort` for the order of the file."""


@frozen_dataclass
class Sensitivity:
    """Sensitivities of layers, and the formats that they are about.

    Attributes:
        layers: in the requested order.
        sort: the format whose loss decides the order, or "file".
    """

    formats: tuple[Format, ...]
    sort: str
    layers: tuple[LayerSensitivity, ...]

    @property
    def worst(self) -> LayerSensitivity | None:
        """The layer with the largest loss in the format of the order; None if no loss is known."""
        by = self.compared
        known = [each for each in self.layers if by in each.formats and each.formats[by].known_loss is not None]
        return worst_first(known, by)[0] if known else None

    @property
    def compared(self) -> Format:
        """The format in which layers are compared."""
        return self.formats[0] if self.sort == FILE else cast("Format", self.sort)

    def to_json(self) -> dict[str, Any]:
        """JSON object of the formats and the layers; the ratio of an exact result is null."""
        return {
            "formats": list(self.formats),
            "sort": self.sort,
            "layers": [
                {
                    "layer": each.layer,
                    "operator": each.operator,
                    "bytes": each.bytes,
                    "reason": each.reason,
                    "formats": {
                        name: {
                            "bytes": effect.bytes,
                            "loss": effect.loss,
                            "signal_to_noise": _finite(effect.signal_to_noise),
                            "measured": effect.measured,
                        }
                        for name, effect in each.formats.items()
                    },
                }
                for each in self.layers
            ],
        }


def sensitivity(
    compiled: Compilation,
    formats: str | Sequence[str] | None = None,
    group: int | None = None,
    sort: str | None = None,
    measure: int = MEASURED,
    progress: Callable[[str], None] = silent,
) -> Sensitivity:
    """The sensitivities of the layers of a compiled model; see `Compiled.sensitivity`."""
    known = known_formats()
    wanted = FORMATS if formats is None else tuple(dict.fromkeys(names_of(formats)))
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"formats are {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    order = default_sort(wanted) if sort is None else sort
    if order not in (FILE, *wanted):
        raise ValueError(f'`sort` is "{FILE}" or one of the formats {", ".join(wanted)}, got {order!r}')
    if (group is not None and group < 1) or measure < 0:
        raise ValueError("`group` is at least 1, and `measure` at least 0")
    if compiled.graph.tensors is None:
        raise needs_weights(compiled, "the sensitivity of layers", "give weights, or leave out `--weights none`")
    chosen = cast("tuple[Format, ...]", wanted)
    by = chosen[0] if order == FILE else cast("Format", order)
    calibration = compiled.data or Calibration(compiled.graph, seed=compiled.seed)
    calibration.asked = False
    with one_thread(), located(compiled.graph), calibration.explained():
        batches = list(calibration.batches())
        found = layer_sensitivities(compiled.graph, batches, chosen, group, by, measure, progress)
    warn_of_random(calibration, "`sensitivity`", compiled.diagnostics)
    return Sensitivity(chosen, order, tuple(found if order == FILE else worst_first(found, by)))


def known_formats() -> tuple[str, ...]:
    """Names of all formats."""
    return get_args(Format)


def default_sort(formats: Sequence[str]) -> str:
    """The format that decides the order of layers: int4, or else the first one."""
    return "int4" if "int4" in formats else formats[0]


def _finite(ratio: float | None) -> float | None:
    return None if ratio is None or math.isinf(ratio) else ratio

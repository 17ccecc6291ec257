"""Registry of passes: names, construction from a name and options, and help for unknown names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from archc.diagnostics import did_you_mean, squashed
from archc.entry_points import EntryPoints
from archc.extension_failure import is_outside
from archc.passmanager.base import REGISTERED, Pass
from archc.types.attributes import AttributeProblem, bind


def check_complete(cls: type[Pass]) -> None:
    """Check that a pass of an extension is a dataclass if it declares options.

    Raises:
        TypeError: the decorator is missing.
    """
    if is_outside(cls):
        from archc.types.attribute_declarations import check_decorator

        check_decorator(cls, Pass, "@dataclass(frozen=True)")


_FOUND: EntryPoints[type[Pass]] = EntryPoints("pass", REGISTERED, check_complete)

_QUANT = "write `quant`"
_TRAINING = "write `quant(training = true)`"
_WEIGHTS_ONLY = 'write `quant(scheme = "weight")`'
_LOWRANK = "write `lowrank(energy = 0.95)`"
_PRUNE = "write `prune(0.5)`; 0.5 is the share of the weights to mask"
_CHANNELS = 'write `prune(0.5, scheme = "channel")`'
_FOLD = "write `fold`"
_SIMPLIFY = "write `simplify`"
_PARTITION = "write `partition(2)`; 2 is the number of stages"
_NONE = "leave it out: without passes the model is compiled as it is written"

FOREIGN_NAMES = {
    **dict.fromkeys(("quantize", "quantization", "quantise", "int8", "ptq", "static_quant", "qdq"), _QUANT),
    **dict.fromkeys(("qat", "quantization_aware_training", "prepare_qat", "fake_quant", "fake_quantize"), _TRAINING),
    "dynamic_quant": 'write `quant(scheme = "dynamic")`',
    "quantize_dynamic": 'write `quant(scheme = "dynamic")`',
    **dict.fromkeys(("weight_only", "w8", "w8a16", "quantize_weights"), _WEIGHTS_ONLY),
    **dict.fromkeys(("svd", "factorize", "low_rank", "decompose", "rank"), _LOWRANK),
    **dict.fromkeys(("sparsify", "sparsity", "sparse", "pruning", "mask", "magnitude"), _PRUNE),
    **dict.fromkeys(("structured", "channel", "channels", "slim", "channel_pruning"), _CHANNELS),
    **dict.fromkeys(("fuse", "fusion", "fuse_bn", "fold_bn", "batch_norm", "constant_folding", "folding"), _FOLD),
    **dict.fromkeys(("optimize", "optimise", "cse", "dce", "dead_code", "simplification", "cleanup"), _SIMPLIFY),
    **dict.fromkeys(("split", "shard", "pipeline", "stages", "parallel", "divide"), _PARTITION),
    **dict.fromkeys(("none", "null", "default"), _NONE),
}
"""Names of passes in other tools, and the archc text to write instead; case and `_` are ignored."""
_BY_SQUASHED = {squashed(name): told for name, told in FOREIGN_NAMES.items()}


def pass_names() -> list[str]:
    """Names of all passes, found without importing the passes."""
    return sorted(_FOUND.names())


def known_passes() -> dict[str, type[Pass]]:
    """All passes by name: the entry points of group `archc.passes`, and passes defined in this process.

    Raises:
        ArchcError: the package of a pass cannot be imported (`pass-not-loadable`).
    """
    return {name: load_pass(name) for name in pass_names()}


def load_pass(name: str) -> type[Pass]:
    """Load a pass by name, without importing other passes.

    Raises:
        KeyError: there is no such pass.
        ArchcError: the pass cannot be imported (`pass-not-loadable`).
    """
    found = _FOUND.find(name)
    if found is None:
        raise KeyError(name)
    return found


def make_pass(name: str, positional: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> Pass:
    """Construct a pass from its name and options.

    Raises:
        AttributeProblem: the pass is unknown (code `unknown-pass`), or an option is invalid.
        ArchcError: the pass cannot be imported (`pass-not-loadable`).
    """
    found = _FOUND.find(name)
    if found is None:
        raise AttributeProblem("unknown-pass", f"there is no pass `{name}`", None, pass_help(name, pass_names()))
    made = bind(found, f"`{name}`", positional, named or {}, "option")
    made.check()
    return made


def pass_help(name: str, known: Iterable[str]) -> str:
    """Help for an unknown pass name.

    Args:
        known: names of the passes, and of the pipelines in the file.
    """
    names = list(known)
    answer = _BY_SQUASHED.get(squashed(name)) or did_you_mean(name, names)
    return answer or f"the passes are {', '.join(f'`{one}`' for one in names)}"

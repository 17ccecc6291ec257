"""Names of passes in other tools, with the text to write instead; case and underscores are ignored."""

from __future__ import annotations

from collections.abc import Iterable

from archc.diagnostics import did_you_mean, squashed

_QUANT = "write `quant`"
_WEIGHTS_ONLY = 'write `quant(scheme = "weight")`'
_LOWRANK = "write `lowrank(energy = 0.95)`"
_PRUNE = "write `prune(0.5)`, for the share of the weights to mask"
_CHANNELS = 'write `prune(0.5, scheme = "channel")`'
_FOLD = "write `fold`"
_SIMPLIFY = "write `simplify`"
_PARTITION = "write `partition(2)`, for the number of stages"
_NONE = "leave it out: without passes the model is compiled as it is written"

PASSES = {
    **dict.fromkeys(("quantize", "quantization", "quantise", "int8", "ptq", "static_quant", "qdq"), _QUANT),
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


def pass_help(name: str, known: Iterable[str]) -> str:
    """Help for the unknown name of a pass.

    Args:
        known: the names of passes, and of the pipelines of a file.
    """
    names = list(known)
    told = _BY_SQUASHED.get(squashed(name)) or did_you_mean(name, names)
    return told or f"there are {', '.join(f'`{one}`' for one in names)}"


_BY_SQUASHED = {squashed(name): told for name, told in PASSES.items()}

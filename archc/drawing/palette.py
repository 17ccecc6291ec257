"""Colours: one for each family of operators, one for each block, one for each stage."""

from __future__ import annotations

PAGE, CARD, BORDER, INK, FAINT, LINE, BACK = "#f4f5f8", "#ffffff", "#c9ced8", "#1f2933", "#5d6875", "#6b7685", "#b4552d"
_PLAIN = ("#eef0f4", "#aeb6c2")
_FAMILIES = {
    "conv": ("#d7e6fb", "#6d9be0"),
    "linear": ("#d5f0df", "#5fae80"),
    "matmul": ("#d5f0df", "#5fae80"),
    "attention": ("#ffe2c4", "#dd9440"),
    "recurrent": ("#e6dcf8", "#9577cf"),
    "norm": ("#e0eef0", "#7fa9b0"),
    "activation": ("#fdf3c8", "#cfae3c"),
    "softmax": ("#fdf3c8", "#cfae3c"),
    "pool": ("#fbdcd9", "#d5807a"),
    "quantize": ("#ece7f2", "#9d92b3"),
    "combine": ("#dfe3ea", "#8d97a6"),
    "scan": ("#f3ebfd", "#9577cf"),
    "loop": ("#eceff4", "#8d97a6"),
}
_BLOCKS = ["#e8e3fb", "#dcefe9", "#fde6d8", "#dde9fb", "#fbe1ec", "#eef0d3", "#e2e6ee", "#f6e3fb"]
_BLOCK_LINES = ["#7a68c8", "#3f9579", "#cf7a3c", "#4a80cc", "#c8598a", "#8d9436", "#69768c", "#a85cc0"]
_STAGES = ["#eaf2fd", "#eaf8ee", "#fdf1e4", "#f4ecfb", "#fdebec", "#eff5e1"]
STORED = ("#9fc0ef", "#2f66b8")
"""Of layers whose weights are not stored as plain numbers."""


def family(name: str) -> tuple[str, str]:
    """Fill and line of a family of operators."""
    return _FAMILIES.get(name, _PLAIN)


def block(number: int) -> tuple[str, str]:
    """Fill and line of a block, by its place among the panels."""
    return _BLOCKS[number % len(_BLOCKS)], _BLOCK_LINES[number % len(_BLOCKS)]


def stage(number: int) -> str:
    """The colour of the band of a stage."""
    return _STAGES[number % len(_STAGES)]

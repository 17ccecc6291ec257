"""Sizes of texts and nodes in pixels, and colours.

The font of the viewer is unknown.  Text widths are therefore computed with the ASCII characters of DejaVu Sans, one of
the widest fonts, and with upper estimates for other characters.  Each family of operators, each block and each stage
has a colour.
"""

from __future__ import annotations

import math
import unicodedata

from archc.drawing.scene import BoxRow, SceneNode

LABEL, TEXT, SMALL = 12.0, 11.0, 10.0
"""Font sizes of names and titles, of operators, and of secondary texts."""
ROW, LIGHT_ROW, SHAPE_ROW = 24.0, 17.0, 15.0
"""Heights of the rows of a box."""
MARGIN = 10.0
"""Space at the sides of a text in a box."""
SYMBOL = 22.0
"""The diameter of a circle with a sign in it."""
HEADER = 22.0
"""The height of the title of a frame."""
_BADGE = 15.0

# Character widths in hundredths of the font size, from the space to the tilde.
_WIDTHS = [
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34),
    *(84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99),
    *(69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52),
    *(39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
]
_BOLD = 1.13


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text."""
    hundredths = sum(_character_width(character) for character in text)
    return hundredths / 100 * size * (_BOLD if bold else 1.0)


def _character_width(character: str) -> int:
    code = ord(character)
    if 32 <= code < 127:
        return _WIDTHS[code - 32]
    if unicodedata.combining(character):
        return 0
    return 110 if unicodedata.east_asian_width(character) in "WF" else 88


def row_height(row: BoxRow) -> float:
    """The height of a row."""
    return LIGHT_ROW if row.light else ROW


def row_width(row: BoxRow) -> float:
    """The width of the texts of a row: name, operator, and storage."""
    size = SMALL if row.light else TEXT
    width = text_width(row.text, size)
    if row.label:
        width += text_width(row.label, size if row.light else LABEL, bold=True) + (6 if row.text else 0)
    return width + (text_width(row.storage, SMALL) + 14 if row.storage else 0)


def node_size(node: SceneNode) -> tuple[float, float]:
    """Width and height of a node without an inner panel."""
    if node.kind == "symbol":
        return SYMBOL, SYMBOL
    if node.kind in ("input", "output"):
        return _even(max(map(row_width, node.rows)) + 2 * MARGIN + 4), 22.0
    width = max(map(row_width, node.rows)) + 2 * MARGIN + badges_width(node)
    if node.kind == "bar":
        return _even(width + (text_width(node.shape, SMALL) + 10 if node.shape else 0)), 17.0
    height = sum(map(row_height, node.rows))
    if node.shape:
        width = max(width, text_width(node.shape, SMALL) + 2 * MARGIN)
        height += SHAPE_ROW
    return _even(max(width, 64.0)), height


def badges_width(node: SceneNode) -> float:
    """The width of the marks and the repetition count in the first row of a node."""
    repeat = text_width(f"× {node.repeat}", LABEL, bold=True) + 12 if node.repeat else 0.0
    return repeat + _BADGE * len(node.marks)


def _even(number: float) -> float:
    """A number rounded up to an even integer, so that half of the result is a whole number of pixels."""
    return 2.0 * math.ceil(number / 2)


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
"""Fill and line colours of layers whose weights are stored in a format other than dense, such as int8."""


def family_colours(name: str) -> tuple[str, str]:
    """Fill and line colours of a family of operators."""
    return _FAMILIES.get(name, _PLAIN)


def block_colours(number: int) -> tuple[str, str]:
    """Fill and line colours of a block, by the number of its panel."""
    return _BLOCKS[number % len(_BLOCKS)], _BLOCK_LINES[number % len(_BLOCKS)]


def stage_colour(number: int) -> str:
    """The colour of the band of a stage."""
    return _STAGES[number % len(_STAGES)]

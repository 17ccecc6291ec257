"""Figures of commands, drawn by matplotlib into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import error

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size, in inches.

    Raises:
        ArchcError: matplotlib is not installed (`plot-needs-matplotlib`).
    """
    try:
        import matplotlib
    except ImportError:
        raise error(
            "plot-needs-matplotlib", "a figure needs matplotlib, which is not installed", help="pip install matplotlib"
        ) from None
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure into a file; its suffix gives the format (.svg, .png, .pdf).

    Raises:
        ArchcError: the file cannot be written (`plot-not-written`).
    """
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as problem:
        raise error("plot-not-written", f"`{path}` cannot be written: {problem}") from None


def written(path: Path) -> str:
    """The written file and its size, below the figures of a command."""
    return f"\nwritten:\n  {path}  {path.stat().st_size:,} bytes"

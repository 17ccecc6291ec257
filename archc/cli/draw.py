"""`archc draw`: a picture of a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.cli import options, output
from archc.cli.plugins import load_plugins
from archc.diagnostics import Diagnostics, did_you_mean

if TYPE_CHECKING:
    from archc.drawing.scene import Scene
    from archc.ir.graph import Graph

_EPILOG = """\
examples:
  archc draw specs/cnn.arch                                cnn.svg
  archc draw specs/gpt2.arch -o gpt2.svg --depth 1         blocks expanded in place, one level
  archc draw specs/cnn.arch --passes "lowrank, quant"      the model after the passes
  archc draw specs/resnet18.arch -o resnet18.mmd           Mermaid; .dot for Graphviz

The picture has the blocks and loops of the .arch file.  A block is drawn once, in a panel beside the model.  Repeated
layers are a stack of boxes with the number of repetitions.  The colour of a box shows the family of its operator, or
that it is a block; a layer whose weights are stored as integers has a different shade.  Boxes with the same number
share weights.  A dashed line leads from a step of a `scan` to the next one.  `·` is a size that differs between the
uses of a block, or whose formula is too long.
"""

KINDS = (".svg", ".mmd", ".dot")


def add_parser(commands: Any) -> None:
    """Add the command and its options to the command line."""
    parser = commands.add_parser(
        "draw",
        help="draw a model as a picture",
        description="Draw a model as an SVG picture, or as a text for Mermaid or Graphviz.",
        epilog=_EPILOG,
    )
    options.add_file(parser)
    options.add_model(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        dest="picture",
        type=_picture,
        help="the file to write: .svg, .mmd or .dot (default: the model's name, as .svg)",
    )
    parser.add_argument(
        "--depth",
        metavar="N",
        type=_depth,
        default=0,
        help="the number of levels of blocks to expand in place (default: 0, a panel for each block)",
    )
    parser.add_argument(
        "--open",
        metavar="BLOCK",
        action="append",
        default=[],
        help="a block to expand in place at every use; may be given several times",
    )
    options.add_compilation(parser)
    options.add_strict(parser)
    options.add_load(parser)
    options.add_json(parser, "the written file, and the number of nodes and edges of each panel,")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from archc.drawing.compose import compose
    from archc.driver.output_folder import OutputFolder

    found = Diagnostics()
    load_plugins(arguments.load, found)
    graph, read = _graph(arguments, found)
    if arguments.depth and all(node.scope.parent is None for node in graph.nodes()):
        options.warn_without_effect(found, "depth", f"on `{graph.name}`, which has no blocks")
    options.hold_to_strict(arguments, found)
    scene = compose(graph, arguments.depth, arguments.open)
    path: Path = arguments.picture or Path(f"{graph.name}.svg")
    text = written(scene, path.suffix)
    with OutputFolder(path.parent, read, "give the picture another name: `-o picture.svg`") as folder:
        folder.write_text(path.name, text)
    if arguments.json:
        warnings = [warning.to_json() for warning in found.warnings]
        output.print_json({**_report(scene, path, len(text.encode())), "warnings": warnings})
        return 0
    output.diagnostics(found)
    print(f"{path}: {output.count(len(scene.panels), 'panel')}, {len(text.encode()):,} bytes")
    return 0


def written(scene: Scene, kind: str) -> str:
    """Return the file contents of a scene, in the format of a file suffix."""
    if kind == ".mmd":
        from archc.drawing.text_formats import draw_mermaid

        return draw_mermaid(scene)
    if kind == ".dot":
        from archc.drawing.text_formats import draw_dot

        return draw_dot(scene)
    from archc.drawing.svg import draw_svg

    return draw_svg(scene)


def _graph(arguments: argparse.Namespace, found: Diagnostics) -> tuple[Graph, frozenset[Path]]:
    """Return the graph of the model, and the files that were read.

    The model is compiled only if the options ask for passes, weights or calibration data.
    """
    options.warn_without("passes", arguments, found, ("sizes", "weights", "calib", "seed"))
    options.warn_without("weights", arguments, found, ("allow-pickle",))
    if options.asks_for_compilation(arguments):
        with output.progress() as progress:
            compiled = options.compiled(arguments, found, progress)
        return compiled.graph, compiled.files
    from archc.driver.parsing import checked, open_module, parse_settings, texts_of
    from archc.passmanager.sizes import choose_sizes

    values = parse_settings(arguments.set)
    module = open_module(options.text_of(arguments.file), found, arguments.allow_absolute_imports)
    graph = checked(module, arguments.model, values, found)
    choose_sizes(graph, arguments.sizes)  # raises an error for sizes that the model does not have
    return graph, texts_of(module)


def _report(scene: Scene, path: Path, size: int) -> dict[str, Any]:
    panels = [
        {
            "title": panel.title,
            "nodes": sum(len(inner.nodes) for inner in panel.within()),
            "edges": sum(len(inner.edges) for inner in panel.within()),
        }
        for panel in scene.panels
    ]
    return {"model": scene.title, "file": str(path), "bytes": size, "panels": panels}


def _picture(text: str) -> Path:
    """Parse the path of a picture, whose suffix determines the format."""
    path = Path(text)
    if path.suffix not in KINDS:
        way = did_you_mean(path.suffix, KINDS)
        message = f"`{text}` does not end in {', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise argparse.ArgumentTypeError(f"{message}; {way}" if way else message)
    return path


def _depth(text: str) -> int:
    """Parse a number of levels."""
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise argparse.ArgumentTypeError(f"a depth is a number such as 0 or 2, and not `{text}`")
    return int(text)

"""A `scan` in ONNX: one `Scan` node, whose body is a graph of its own.

What the steps use from outside, weights among it, the body takes from the graph around it by name.

`Scan` runs along the first axis, with a `Transpose` of each sequence before and after it.  Along another axis ONNX
Runtime transposes in `Scan` itself, no faster, and crashes on a sequence without elements: it divides by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx

from archc.codegen.onnx.nodes import Record, write
from archc.ir.scans import Scan
from archc.types.tensor_type import TensorType

if TYPE_CHECKING:
    from archc.codegen.onnx.builder import Builder


def scan_records(builder: Builder, scan: Scan) -> list[Record]:
    """The nodes of a scan; also names its results."""
    entering = scan.enter.results[1:]
    items, states = entering[: len(scan.sequences)], entering[len(scan.sequences) :]
    title = scan.enter.scope.within("scan")
    prefix = builder.node_name(title)
    body = onnx.GraphProto(name=f"{prefix}/step")
    started = [builder.name(value) for value in scan.first_states]
    entered = {value: builder.fresh(f"{title}.{value.name or value.index}.steps") for value in scan.sequences}
    made = [_transpose(builder.name(value), steps, value.type.rank) for value, steps in entered.items()]
    records: list[Record] = []
    with builder.recording(records):
        for value in (*states, *items):
            builder.declare(body.input.add(), builder.enter(value, title), value.type)
        builder.items(scan.body)
        ends = [(builder.name(value), value.type) for value in (*scan.next_states, *scan.kept)]
        _declare_outputs(builder, body, records, ends, title)
    for record in builder.fusible(records, [output.name for output in body.output]):
        write(body.node.add(), record)
    results = [builder.result(value, scan.exit) for value in scan.exit.results]
    last, kept = results[: len(started)], results[len(started) :]
    steps = [builder.fresh(f"{name}.steps") for name in kept]
    attributes = {"body": body, "num_scan_inputs": len(scan.sequences)}
    inputs = [*started, *(entered[value] for value in scan.sequences)]
    made.append(Record("Scan", inputs, [*last, *steps], attributes, name=prefix))
    for source, result, value in zip(steps, kept, scan.kept, strict=True):
        made.append(_transpose(source, result, value.type.rank + 1))
    return made


def _transpose(source: str, result: str, rank: int) -> Record:
    """The node that exchanges the first two axes: batch and steps."""
    return Record("Transpose", [source], [result], {"perm": [1, 0, *range(2, rank)]}, name=result)


def _declare_outputs(
    builder: Builder,
    body: onnx.GraphProto,
    records: list[Record],
    ends: Sequence[tuple[str, TensorType]],
    title: str,
) -> None:
    """The outputs of a body: names that it makes itself, each once, which takes a copy where it does not."""
    made = {name for record in records for name in record.outputs}
    for name, type in ends:
        output = name
        if name not in made:
            output = builder.fresh(f"{title}.{name}")
            records.append(Record("Identity", [name], [output], {}, name=output))
        made.discard(name)
        builder.declare(body.output.add(), output, type)


def captured(record: Record) -> set[str]:
    """The names that a node's body takes from around it, and perhaps some of its own."""
    bodies = [value for value in record.attributes.values() if isinstance(value, onnx.GraphProto)]
    return {name for body in bodies for name in _used(body)}


def _used(body: onnx.GraphProto) -> set[str]:
    found = {name for node in body.node for name in node.input}
    for node in body.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _used(attribute.g)
    return found

"""Facts about the targets, for passes: the emitted ones, and the work from which integers are faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from archc.diagnostics import did_you_mean
from archc.frozen_dataclass import frozen_dataclass
from archc.ir.graph import Graph
from archc.passmanager.latency import Measure, cannot_measure
from archc.types.attributes import AttributeProblem


@frozen_dataclass
class BreakEven:
    """Multiply-adds per sample from which layers are faster in int8 than in floats, in one runtime.

    By default, int8 is always faster, except in recurrent layers.

    Attributes:
        static: for a linear layer whose operand is quantized with constant scales.
        dynamic: for a linear layer whose operand is quantized with scales that are computed in each run.
        integer_result: for a layer whose kernel returns integers, such as a convolution.  Its operand is usually
            quantized already.
        isolated: for such a layer if the result is used in floats, so that it is converted back.
        recurrent_step: for one layer of a recurrent operator, in one step, by name of the operator.  The runtime
            computes the other recurrent operators in floats.
    """

    static: int = 0
    dynamic: int = 0
    integer_result: int = 0
    isolated: int = 0
    recurrent_step: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def in_all(cls, several: Sequence[BreakEven]) -> BreakEven:
        """Multiply-adds from which int8 is faster in each of several runtimes.

        Runtimes that compute a recurrent operator in floats do not count for its `recurrent_step`.
        """
        if not several:
            return cls()
        steps: dict[str, int] = {}
        for each in several:
            for name, least in each.recurrent_step.items():
                steps[name] = max(steps.get(name, 0), least)
        return cls(
            max(each.static for each in several),
            max(each.dynamic for each in several),
            max(each.integer_result for each in several),
            max(each.isolated for each in several),
            steps,
        )


ProgramBytes = Callable[[Graph], Mapping[str, int]]
"""Function that returns the bytes of emitted programs of a graph by target; empty if not known."""


def unknown_bytes(graph: Graph) -> dict[str, int]:
    """Return nothing: the value of `TargetFacts.program_bytes` if nothing emits programs."""
    return {}


@frozen_dataclass
class TargetFacts:
    """Facts about the targets, which the driver gives to passes.

    Attributes:
        emitted: names of the targets that are emitted.
        break_even: for each target whose runtime has integer kernels, by name.
        latencies: measures the latencies of several graphs, which run in turns; a fair comparison needs this.
        program_bytes: emits a graph, and returns the bytes of the program with its weights and the files that it
            imports, for each emitted target; empty if a target cannot express the graph.
    """

    emitted: Sequence[str] = ()
    break_even: Mapping[str, BreakEven] = field(default_factory=dict)
    latencies: Measure = cannot_measure
    program_bytes: ProgramBytes = unknown_bytes

    def break_even_for(self, names: str | Sequence[str] | None) -> BreakEven:
        """Multiply-adds from which int8 is faster, for all of these targets.

        Args:
            names: one name or several; None for the emitted ones, or for all targets if these have no integer kernels.

        Raises:
            AttributeProblem: a target does not exist, or its runtime has no integer kernels.
        """
        if names is None:
            names = [name for name in self.emitted if name in self.break_even] or [*self.break_even]
        elif not names:
            known = " or ".join(f'"{known}"' for known in self.break_even)
            raise AttributeProblem("bad-option", "`for` names no target", "for", f"give {known}, or leave it out")
        names = [names] if isinstance(names, str) else names
        for name in names:
            if name not in self.break_even:
                known = " or ".join(f'"{known}"' for known in self.break_even)
                raise AttributeProblem(
                    "bad-option",
                    f'`for` names the target "{name}", but archc knows no integer kernels of such a target',
                    "for",
                    did_you_mean(name, self.break_even) or f"give {known}",
                )
        return BreakEven.in_all([self.break_even[name] for name in names])

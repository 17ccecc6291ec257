"""Inputs on which passes execute a graph: the user's calibration data, or seeded random inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import ArchcError, Diagnostics, did_you_mean, error
from archc.interpreter.sample_inputs import size_minimums
from archc.ir.given_sizes import settings_text, size_names
from archc.ir.graph import Graph, Value
from archc.passmanager.findings import Findings
from archc.types.dims import as_symbol, evaluate, symbols

if TYPE_CHECKING:
    import numpy as np
    import torch

    from archc.interpreter.evaluate import NodeFailure

BATCH = 32
"""Maximum number of samples in a batch."""
MAXIMUM_SAMPLES = 512
"""Maximum number of samples that are used."""
_LARGEST_SIZE = 4096
"""Exclusive upper limit of the search for a size that is large enough for the model."""


class Calibration:
    """Inputs of a graph by name, divided into batches.

    Args:
        graph: the graph that takes the inputs; passes must not change its inputs.
        arrays: the user's data, with samples along the first axis; None for random inputs.
        seed: seed of the random inputs.
        trained: True if the weights are the user's; measurements on random inputs are then unreliable.
        findings: keeps what passes measure on the inputs; by default, nothing is kept.

    Attributes:
        asked: True after the samples were read; set to False before a pass to detect whether the pass reads them.
    """

    def __init__(
        self,
        graph: Graph,
        arrays: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        trained: bool = False,
        findings: Findings | None = None,
    ):
        self._graph = graph
        self._arrays = arrays
        self._seed = seed
        self.trained = trained
        self.findings = findings or Findings(keep=False)
        self.asked = False

    @property
    def real(self) -> bool:
        """True if the inputs are the user's data."""
        return self._arrays is not None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """Shapes of the user's data by input name; None for random inputs, which have arbitrary sizes."""
        return None if self._arrays is None else {name: array.shape for name, array in self._arrays.items()}

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The samples by input name, at most `MAXIMUM_SAMPLES` of them."""
        self.asked = True
        return self._samples

    @cached_property
    def _samples(self) -> Mapping[str, np.ndarray]:
        from archc.interpreter.sample_inputs import random_inputs

        if self._arrays is None:
            return random_inputs(self._graph, self._seed)
        if not self._batched:
            return self._arrays
        return {name: array[:MAXIMUM_SAMPLES] if array.ndim else array for name, array in self._arrays.items()}

    @property
    def _batched(self) -> bool:
        """True if the inputs can be divided into batches along a common first axis.

        One symbol must be the first size of every input, and must be in no other size of an input.  An input without
        axes has one value for all samples.  If an operator requires a minimum of that symbol, the operator combines
        samples, so the inputs are not divided.
        """
        from archc.interpreter.sample_inputs import symbol_minimums

        shapes = [value.type.shape for value in self._graph.inputs if value.type.shape]
        leading = {as_symbol(shape[0]) for shape in shapes}
        batch = leading.pop() if len(leading) == 1 else None
        if batch is None or any(batch.name in symbols(dim) for shape in shapes for dim in shape[1:]):
            return False
        return batch.name not in symbol_minimums(self._graph)

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The samples in batches of at most `BATCH`."""
        import torch

        dtypes = {value.name or "": getattr(torch, value.type.dtype.torch) for value in self._graph.inputs}
        # PyTorch does not accept NumPy arrays of bf16, so the arrays of bf16 inputs are f32.
        tensors = {name: torch.from_numpy(array).to(dtypes[name]) for name, array in self.arrays.items()}
        if not self._batched:
            yield tensors
            return
        count = max(len(tensor) for tensor in tensors.values() if tensor.ndim)
        for start in range(0, count, BATCH):
            yield {name: tensor[start : start + BATCH] if tensor.ndim else tensor for name, tensor in tensors.items()}

    def sample(self) -> dict[str, torch.Tensor]:
        """The first sample, with a batch axis of size 1; all samples if they cannot be divided into batches.

        The sample is for measurements of latency, which hardly depends on the values, so `asked` does not change.
        """
        asked = self.asked
        batch = next(self.batches())
        self.asked = asked
        return {name: tensor[:1] if tensor.ndim and self._batched else tensor for name, tensor in batch.items()}

    def outputs(self, graph: Graph) -> dict[str, torch.Tensor]:
        """The outputs of a graph for the first batch.

        Raises:
            ArchcError: the model cannot run on these inputs (`calibration-failed`).
        """
        from archc.interpreter.evaluate import evaluate

        with self.explained():
            return evaluate(graph, next(self.batches()))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the failure of a node on these inputs into a diagnostic.

        Raises:
            ArchcError: the model cannot run on these inputs (`calibration-failed`).
        """
        from archc.interpreter.evaluate import NodeFailure

        try:
            yield
        except NodeFailure as failure:
            raise failed_run(self._graph, failure, self.real) from failure


def read_calibration(graph: Graph, data: str | Path | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checked calibration data for a graph's inputs, from an .npz file or from arrays by input name.

    Floats and integers are converted to the dtype of the input.  The conversion may lose precision, but not overflow.

    Raises:
        ArchcError: an input has no data, an array belongs to no input, or an array has a wrong dtype, rank or shape.
    """
    from archc.interpreter.evaluate import bind_sizes
    from archc.weights.npz import load_npz_arrays

    given = load_npz_arrays(Path(data)) if isinstance(data, (str, Path)) else dict(data)
    where = Path(data).name if isinstance(data, (str, Path)) else "the calibration data"
    names = [value.name or "" for value in graph.inputs]
    for name in given:
        if name not in names:
            inputs = ", ".join(f"`{own}`" for own in names)
            raise error(
                "calibration-surplus",
                f"{where} has an array `{name}`, but the model has no such input",
                help=did_you_mean(name, names) or f"the inputs are {inputs}",
            )
    arrays = {}
    for value in graph.inputs:
        name = value.name or ""
        if name not in given:
            raise error(
                "calibration-missing",
                f"{where} has no array `{name}`",
                help=f"save an array of type {value.type} with numpy.savez({name}=...)",
            )
        arrays[name] = _converted(given[name], value, where)
        if not arrays[name].size:
            raise error(
                "calibration-empty",
                f"{where}: `{name}` holds no samples; its shape is {list(arrays[name].shape)}",
                help="a few hundred samples are enough to calibrate with",
            )
    try:
        sizes = bind_sizes(graph, {name: array.shape for name, array in arrays.items()})
    except ValueError as mismatch:
        raise error(
            "calibration-shape", f"{where}: {mismatch}", help="give arrays with the shapes of the inputs"
        ) from None
    for value in graph.inputs:
        _check_range(graph, value, arrays[value.name or ""], sizes, where)
    return arrays


def warn_of_constant(arrays: Mapping[str, np.ndarray], diagnostics: Diagnostics) -> None:
    """Warn of constant calibration data, which do not represent real inputs.

    Integers and masks may be constant, for instance because all samples have the same length.  They are reported only
    if all inputs are constant.
    """
    import numpy as np

    constant = [name for name, array in arrays.items() if array.size > 1 and (array == array.flat[0]).all()]
    every = len(constant) == len(arrays)
    for name in constant:
        array = arrays[name]
        if every or np.issubdtype(array.dtype, np.floating):
            diagnostics.warn(
                "constant-calibration",
                f"every element of `{name}` in the calibration data is {array.flat[0]}",
                help="give representative inputs: ranges and errors measured on constants are meaningless",
            )


def _check_range(graph: Graph, value: Value, array: np.ndarray, sizes: Mapping[str, int], where: str) -> None:
    """Refuse integers outside the range that a consumer accepts, such as ids beyond an embedding."""
    from archc.interpreter.sample_inputs import accepted_integers

    if not value.type.dtype.integral:
        return
    accepted = accepted_integers(graph, value, sizes)
    if accepted is None:
        return
    least, most = int(array.min()), int(array.max())
    if least < accepted.start or most >= accepted.stop:
        raise error(
            "calibration-range",
            f"{where}: `{value.name}` holds integers from {least} to {most},"
            f" but the model accepts integers from {accepted.start} to {accepted.stop - 1}",
            help="give data of this model, or enlarge the model: more rows in the `embedding`, for instance",
        )


def _converted(array: np.ndarray, value: Value, where: str) -> np.ndarray:
    import numpy as np

    from archc.weights.dtype_conversion import is_finite, name_of_numpy, numpy_dtype

    wanted = numpy_dtype(value.type.dtype.value)
    if value.type.dtype.value == "bf16":
        wanted = np.dtype(np.float32)
    if name_of_numpy(array.dtype) == "bf16":  # the dtype of bf16 is not a subtype of np.floating
        array = array.astype(np.float32)
    floats = np.issubdtype(array.dtype, np.floating) and value.type.dtype.floating
    integers = np.issubdtype(array.dtype, np.integer) and value.type.dtype.integral
    if not (floats or integers or array.dtype == wanted):
        raise error(
            "calibration-dtype",
            f"{where}: `{value.name}` is {array.dtype}, but the input is {value.type}",
            help=f"convert it with numpy: `{value.name}.astype({wanted.name!r})`",
        )
    if floats and not is_finite(array):
        raise error(
            "calibration-not-finite",
            f"{where}: `{value.name}` holds a NaN or an infinity",
            help="remove the samples with a NaN or an infinity: no pass can measure with them",
        )
    with np.errstate(over="ignore"):
        converted = np.asarray(array, wanted, order="C")
    # The f32 array is converted to bf16 later; that conversion may also overflow.
    stored = converted.astype(numpy_dtype("bf16")) if value.type.dtype.value == "bf16" else converted
    if floats and not is_finite(stored):
        raise error(
            "calibration-not-finite",
            f"{where}: `{value.name}` holds {_most_extreme(array)}, which overflows {value.type.dtype}",
            help=f"remove the samples that overflow {value.type.dtype}, or scale the data",
        )
    return converted


def _most_extreme(array: np.ndarray) -> str:
    least, most = array.min(), array.max()
    return f"{most if abs(most) >= abs(least) else least:.5g}"


def failed_run(graph: Graph, failure: NodeFailure, real: bool) -> ArchcError:
    """Error for a node that cannot run: the layer, the sizes of its operands, and a way out.

    Args:
        real: True for the user's data, False for random inputs.
    """
    node = failure.node
    operands = " and ".join("×".join(map(str, shape)) or "a single number" for shape in failure.shapes)
    sizes = {name: size for name, size in failure.sizes.items() if name in size_names(graph)}
    notes = [f"its operands are {operands}"] if operands else []
    if sizes:
        notes.append(f"the inputs have {settings_text(sizes)}")
    larger = settings_text(_large_enough(graph, sizes))
    if larger and real:
        help = f"give larger samples with `--calib`: at least {larger}"
    elif larger:
        help = f"for passes, give samples with `--calib`: at least {larger}; without passes, use `--no-check`"
    elif real:
        help = "give samples with `--calib` on which the model runs, or omit `--calib` for random inputs"
    else:
        help = "for passes, give samples with `--calib` on which the model runs; without passes, use `--no-check`"
    what = "the calibration data" if real else "seeded random inputs"
    message = f"{node.title} cannot run on {what}: {failure.reason}"
    return error("calibration-failed", message, node.span, notes, help)


def _large_enough(graph: Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """A size to increase, with the smallest value at which the model runs; empty if no size suffices."""
    needed = size_minimums(graph)
    missing = [(dim, least) for dim, least in needed if evaluate(dim, sizes=sizes) < least]
    for name in sizes if missing else ():
        for size in range(sizes[name] + 1, _LARGEST_SIZE):
            trial = {**sizes, name: size}
            if all(evaluate(dim, sizes=trial) >= least for dim, least in (*missing, *needed)):
                return {name: size}
    return {}

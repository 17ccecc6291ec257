"""The inputs that passes run a graph on: a user's calibration data, or seeded random ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import Diagnostics, did_you_mean, error
from archc.ir.graph import Graph, Value
from archc.passmanager.failures import failed_run
from archc.types.dims import as_symbol, symbols

if TYPE_CHECKING:
    import numpy as np
    import torch

    from archc.passmanager.base import Pass

BATCH = 32
MAXIMUM_SAMPLES = 512


class Calibration:
    """Inputs by name, cut into batches.

    Args:
        graph: for which inputs they are; its inputs must stay what they are.
        arrays: real data, samples along the first axis; None for random inputs.
        seed: of the random inputs.
        trained: whether the weights are a user's, of which measurements on random inputs say little.

    Attributes:
        asked: True once a pass has read the samples; reset it to False before a pass to learn whether that pass does.
    """

    def __init__(
        self, graph: Graph, arrays: Mapping[str, np.ndarray] | None = None, seed: int = 0, trained: bool = False
    ):
        self._graph = graph
        self._arrays = arrays
        self._seed = seed
        self.trained = trained
        self.asked = False

    @property
    def real(self) -> bool:
        """Whether the inputs are a user's data."""
        return self._arrays is not None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """The shapes of a user's data by input name; None for random inputs, whose sizes mean nothing."""
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
        """Whether one size is the first axis of every input, and of that alone, so that batches can be cut.

        An input without axes has one value for all samples.
        They cannot where an operator needs so many places along it: it looks at samples side by side.
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
        # Numpy has no bf16 that PyTorch would take, and bf16 inputs come as f32.
        tensors = {name: torch.from_numpy(array).to(dtypes[name]) for name, array in self.arrays.items()}
        if not self._batched:
            yield tensors
            return
        count = max(len(tensor) for tensor in tensors.values() if tensor.ndim)
        for start in range(0, count, BATCH):
            yield {name: tensor[start : start + BATCH] if tensor.ndim else tensor for name, tensor in tensors.items()}

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
            ArchcError: the model cannot run on them (`calibration-failed`).
        """
        from archc.interpreter.evaluate import NodeFailure

        try:
            yield
        except NodeFailure as failure:
            raise failed_run(self._graph, failure, self.real) from failure


def read_calibration(graph: Graph, data: str | Path | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Calibration data for a graph's inputs: from an .npz file, or arrays by input name, checked.

    Floats and integers are converted to the input's own dtype where nothing is lost but precision.

    Raises:
        ArchcError: an input without data, data for no input, or data of another kind, rank or shape.
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
                f"{where} has an array `{name}`, and the model no such input",
                help=did_you_mean(name, names) or f"the inputs are {inputs}",
            )
    arrays = {}
    for value in graph.inputs:
        name = value.name or ""
        if name not in given:
            raise error(
                "calibration-missing",
                f"{where} has no array `{name}`",
                help=f"save one of {value.type} with numpy.savez({name}=...)",
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
            "calibration-shape", f"{where}: {mismatch}", help="give arrays of the shapes that the model takes"
        ) from None
    for value in graph.inputs:
        _check_range(graph, value, arrays[value.name or ""], sizes, where)
    return arrays


def warn_of_constant(arrays: Mapping[str, np.ndarray], diagnostics: Diagnostics) -> None:
    """Warn of constant calibration data, which say nothing of real inputs.

    Integers and masks may be constant, as all samples may have one length, so these are reported only where all inputs
    are constant.
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
                help="give inputs that the model will see: ranges and errors measured on these mean nothing",
            )


def warn_of_random(calibration: Calibration, step: Pass, diagnostics: Diagnostics) -> None:
    """Warn of a pass that measured trained weights on random inputs."""
    if calibration.asked and calibration.trained and not calibration.real:
        diagnostics.warn(
            "random-calibration",
            f"the pass `{step}` ran the model on random inputs to measure it, and the weights are trained",
            help="give inputs that the model will see: `--calib FILE`, an .npz file with an array for each input",
        )


def _check_range(graph: Graph, value: Value, array: np.ndarray, sizes: Mapping[str, int], where: str) -> None:
    """Refuse integers that a consumer cannot look up (the ids of an embedding)."""
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
            f" and the model takes those from {accepted.start} to {accepted.stop - 1}",
            help="give data of this model, or make room in it, such as more rows in an `embedding`",
        )


def _converted(array: np.ndarray, value: Value, where: str) -> np.ndarray:
    import numpy as np

    from archc.weights.dtype_conversion import is_finite, name_of_numpy, numpy_dtype

    wanted = numpy_dtype(value.type.dtype.value)
    if value.type.dtype.value == "bf16":
        wanted = np.dtype(np.float32)
    if name_of_numpy(array.dtype) == "bf16":  # no float type of numpy's own
        array = array.astype(np.float32)
    floats = np.issubdtype(array.dtype, np.floating) and value.type.dtype.floating
    integers = np.issubdtype(array.dtype, np.integer) and value.type.dtype.integral
    if not (floats or integers or array.dtype == wanted):
        raise error(
            "calibration-dtype",
            f"{where}: `{value.name}` is {array.dtype}, and the input is {value.type}",
            help=f"convert it with numpy: `{value.name}.astype({wanted.name!r})`",
        )
    if floats and not is_finite(array):
        raise error(
            "calibration-not-finite",
            f"{where}: `{value.name}` holds a NaN or an infinity",
            help="leave out the samples that have one: no range of integers covers them",
        )
    with np.errstate(over="ignore"):
        converted = np.asarray(array, wanted, order="C")
    # PyTorch converts from f32 to bf16 later, and that may overflow as well.
    stored = converted.astype(numpy_dtype("bf16")) if value.type.dtype.value == "bf16" else converted
    if floats and not is_finite(stored):
        raise error(
            "calibration-not-finite",
            f"{where}: `{value.name}` holds {_most_extreme(array)}, which overflows {value.type.dtype}",
            help=f"leave out the samples that {value.type.dtype} cannot hold, or scale the data",
        )
    return converted


def _most_extreme(array: np.ndarray) -> str:
    least, most = array.min(), array.max()
    return f"{most if abs(most) >= abs(least) else least:.5g}"

"""Targets of emission: formats in which a model can be written, and the runtimes that run their files.

A target is a value.  `archc/targets` has the targets of archc, one file for each, and the registry.

This module imports no library, so that `archc compile --help` is fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from archc.frozen_dataclass import frozen_dataclass
from archc.passmanager.targets import BreakEven

if TYPE_CHECKING:
    import torch

    from archc.codegen.pipeline import ModelStage
    from archc.codegen.python_source import Activations, WriteBeside
    from archc.ir.graph import Graph

OnnxOperators = Literal["microsoft", "standard"]
"""Operators of ONNX models: `microsoft` includes those of ONNX Runtime's domain `com.microsoft`."""

Factors = Mapping[str, float]
"""Factors of weights, by the paths of the weights."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)+")


@frozen_dataclass
class Form:
    """Choices between programs that compute the same.

    Attributes:
        activations: "modules" for a module such as `nn.ReLU` at each use of an activation.  A target without modules
            ignores it.
        onnx: the operators of an ONNX model.  Other targets ignore it.
        single_file: the emitted files import no other file: they have the code of such files themselves.
    """

    activations: Activations = "functions"
    onnx: OnnxOperators = "microsoft"
    single_file: bool = False


DEFAULT_FORM = Form()


@frozen_dataclass
class WeightsFile:
    """The .safetensors file of a model, with the offset and the length in bytes of each stored tensor."""

    path: Path
    offsets: Mapping[str, tuple[int, int]]


@frozen_dataclass
class ModelToEmit:
    """A model, or one stage of a model, that a target writes.

    Attributes:
        graph: the graph; the name of the graph is the name of its files.
        source_name: name of the source file, without folders.
        weights: the weights file, in the folder of the file to write.  None if there is no such file: for a target that
            needs no weights, and for targets with `holds_weights` if no other target is written.
        passes: the passes that changed the graph, with their options.
        compilation: for a stage, an identifier of the compilation, which all stages share; None for a whole model.
        write_beside: writes a file that the emitted file imports.  If it is None or returns None, the emitted file must
            import no other file.
        form: choices between programs that compute the same.
    """

    graph: Graph
    source_name: str
    weights: WeightsFile | None = None
    passes: Sequence[str] = ()
    compilation: str | None = None
    write_beside: WriteBeside | None = None
    form: Form = DEFAULT_FORM

    @property
    def weights_name(self) -> str:
        """Name of the weights file, without folders."""
        return f"{self.graph.name}.safetensors"


class RunError(Exception):
    """Failure of a runtime, with the message of the runtime.

    Args:
        message: the message; only its first four lines are shown.
        refused: True if the runtime refuses the file; False if it fails while it runs the file.
    """

    def __init__(self, message: str, refused: bool):
        super().__init__(message)
        self.refused = refused


@frozen_dataclass
class ExactSums:
    """A second way to run a file, for a runtime that saturates sums of 8-bit products on some CPUs.

    Attributes:
        run: runs a file with exact sums, as `Runtime.run`; the last argument is a folder for temporary files.
        advice: a text for users that says how to get exact sums.
    """

    run: Callable[[Path, Sequence[torch.Tensor], Path], torch.Tensor | Sequence[torch.Tensor]]
    advice: str


@frozen_dataclass
class Runtime:
    """A runtime for the files of a target; the check compares its outputs with those of the graph.

    Attributes:
        name: key of the errors in `report.json`, such as `onnxruntime`.
        title: name in messages, such as `ONNX Runtime`.
        run: runs a file on tensors, one for each input of the model, in order; returns the outputs in order, or the
            tensor itself if there is only one output.  The weights file is in the folder of the file.  `run` is called
            without gradients, in a separate process.  It may raise `RunError` or any other exception.
        scale: multiplies weights within a file by factors, in place.  The weights file is scaled already.  A target
            without this function does not take part in the check with scaled weights.
        modules: modules that are imported before the separate process starts, so that they stay loaded for later
            checks.
        exact_sums: for a runtime that saturates sums of 8-bit products on some CPUs.
        prepare: loads a file, and returns a function that runs it once on the tensors, for measurements of the latency.
            It is called in a separate process, as `run`.  Without this function, the latency is not measured.
        break_even: multiply-adds of a layer from which int8 is faster than floats; None if the runtime has no integer
            kernels.
    """

    name: str
    title: str
    run: Callable[[Path, Sequence[torch.Tensor]], torch.Tensor | Sequence[torch.Tensor]]
    scale: Callable[[Path, Factors], None] | None = None
    modules: Sequence[str] = ()
    exact_sums: ExactSums | None = None
    prepare: Callable[[Path, Sequence[torch.Tensor]], Callable[[], object]] | None = None
    break_even: BreakEven | None = None

    def __post_init__(self) -> None:
        _check_form("name of a runtime", self.name, _NAME, "onnxruntime")


@frozen_dataclass
class Target:
    """A format in which a model can be written.

    A target has either `text` or `write`.

    Attributes:
        name: name for `--emit`, such as `onnx`.
        suffix: suffix of the files, such as `.onnx`.
        title: noun phrase for messages, such as `ONNX model`.
        text: returns the content of a file, for a format that is text.
        write: writes a file, for any other format; the path is the second argument.  The function may write more files
            into the same folder.  Their names begin with the name of the file and a dot, as `cnn.onnx.data`.
        needs_weights: True if models without weights cannot be written.
        holds_weights: True if the files contain the weights where `ModelToEmit.weights` is None.  If this applies to
            all targets of a compilation, no weights file is written.
        staged: True if each stage of a model has a file of its own.
        pipeline: returns the source of a program that runs the files of the stages, each in a process of its own.  The
            arguments are the whole graph, its stages, the name of the source file, and the identifier of the
            compilation.  The file is `<model>_pipeline<suffix>`.
        has_activations: True if the target has both forms of activations; see `ModelToEmit`.
        contributed: returns the operators of a file that are not part of the standard of the format, such as
            `com.microsoft.DynamicQuantizeLSTM`.  None for a format without such operators.
        runtime: the runtime with which the check runs the files; None if nothing runs them.
    """

    name: str
    suffix: str
    title: str
    text: Callable[[ModelToEmit], str] | None = None
    write: Callable[[ModelToEmit, Path], None] | None = None
    needs_weights: bool = True
    holds_weights: bool = False
    staged: bool = False
    pipeline: Callable[[Graph, Sequence[ModelStage], str, str], str] | None = None
    has_activations: bool = False
    contributed: Callable[[Path], Sequence[str]] | None = None
    runtime: Runtime | None = None

    def __post_init__(self) -> None:
        _check_form("name of a target", self.name, _NAME, "onnx")
        _check_form("suffix of a target", self.suffix, _SUFFIX, ".onnx")
        if (self.text is None) == (self.write is None):
            raise ValueError(f"the target `{self.name}` needs either `text` or `write`")

    @property
    def phrase(self) -> str:
        """The title with its article: `an ONNX model`."""
        return f"{'an' if self.title[:1].lower() in ('a', 'e', 'i', 'o', 'u') else 'a'} {self.title}"

    def write_file(self, model: ModelToEmit, path: Path) -> None:
        """Write the file of a model.

        Raises:
            ArchcError: the target cannot express the model.
        """
        if self.text is not None:
            path.write_text(self.text(model), encoding="utf-8")
        elif self.write is not None:
            self.write(model, path)


def reads_weights_file(path: Path, factors: Factors) -> None:
    """Scale nothing: the value of `Runtime.scale` for files that read all weights from the weights file."""


def _check_form(what: str, given: str, form: re.Pattern[str], example: str) -> None:
    if not form.fullmatch(given):
        raise ValueError(f"the {what} is a word such as `{example}`, not {given!r}")

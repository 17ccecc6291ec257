"""Reference implementations of the specs: in `transformers`, `pytorchcv`, others, and tests.

A reference implementation consists of the definitions in a source file that implement a network: the classes of its
modules, or the function that builds it, and the functions and tables of the file that these definitions use.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Peer:
    """Reference implementation of a network.

    Attributes:
        package: name of its package in tables.
        source: text of its file.
        names: classes and functions of the file that implement the network.
        alone: the file has no other network, so its length is comparable.
    """

    package: str
    source: str
    names: tuple[str, ...]
    alone: bool = True

    def parts(self) -> list[str]:
        """Source of each definition in use: `names`, and the functions and tables of the file that they use."""
        found = dict(_named(ast.parse(self.source).body))
        waiting, used = set(self.names), set[str]()
        while waiting:
            name = waiting.pop()
            used.add(name)
            mentioned = {part.id for part in ast.walk(found[name]) if isinstance(part, ast.Name)} - used
            waiting |= {other for other in mentioned if not isinstance(found.get(other, _NOTHING), ast.ClassDef)} & set(
                found
            )
        lines = self.source.splitlines(keepends=True)
        return ["".join(lines[found[name].lineno - 1 : found[name].end_lineno]) for name in sorted(used)]


_NOTHING = ast.Pass()


def _named(body: Iterable[ast.stmt]) -> Iterable[tuple[str, ast.stmt]]:
    """Yield the classes, functions and tables of a file; names of tables are in capitals."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            yield node.targets[0].id, node


def in_transformers(name: str) -> Peer:
    """Find a model of `transformers` in its default size; `name` omits a final `Model`."""
    import torch
    import transformers

    family = re.sub(r"(LMHead|For[A-Z]\w+)$", "", name)
    model = getattr(transformers, name if "For" in name else f"{name}Model")
    with torch.device("meta"):
        built: nn.Module = model(getattr(transformers, f"{family}Config")())
    return _of_module("transformers", type(built).__module__, built)


def in_pytorchcv(file: str, name: str) -> Peer:
    """Find a network of `pytorchcv`, without the function that selects its size."""
    import torch

    module = f"pytorchcv.models.{file}"
    with torch.device("meta"):
        built: nn.Module = getattr(importlib.import_module(module), name)()
    return _of_module("pytorchcv", module, built)


def _of_module(package: str, module: str, built: nn.Module) -> Peer:
    names = {type(part).__name__ for part in built.modules() if type(part).__module__ == module}
    return Peer(package, inspect.getsource(importlib.import_module(module)), tuple(sorted(names)))


def in_tests(file: str, *names: str, package: str = "torch.nn") -> Peer:
    """Find a network that is implemented in the tests."""
    module = importlib.import_module(f"tests.specs.{file}")
    return Peer(package, inspect.getsource(module), names, alone=False)


def in_file(title: str, file: str, name: str) -> Peer:
    """Find a network in a file of a package for sound without an import: it would need sound libraries."""
    package = find_spec(title.lower())
    assert package is not None and package.submodule_search_locations is not None
    return Peer(title, (Path(package.submodule_search_locations[0]) / file).read_text(encoding="utf-8"), (name,))


PEERS: Mapping[str, Callable[[], Peer]] = {
    **{
        spec: partial(in_tests, "dense", "perceptron")
        for spec in ("linear_regression", "mlp", "large_model", "small_model")
    },
    "net": partial(in_tests, "convolutional", "net"),
    "cnn": partial(in_tests, "convolutional", "cnn"),
    "lenet5": partial(in_tests, "convolutional", "lenet5"),
    "vgg16": partial(in_pytorchcv, "vgg", "vgg16"),
    "resnet18": partial(in_pytorchcv, "resnet", "resnet18"),
    "resnet34": partial(in_pytorchcv, "resnet", "resnet34"),
    "resnet50": partial(in_transformers, "ResNetForImageClassification"),
    "resnet101": partial(in_pytorchcv, "resnet", "resnet101"),
    "inception_v1": partial(in_tests, "convolutional", "googlenet", "Branches"),
    "inception_v3": partial(in_pytorchcv, "inceptionv3", "inceptionv3"),
    "mobilenet_v2": partial(in_pytorchcv, "mobilenetv2", "mobilenetv2_w1"),
    "densenet121": partial(in_pytorchcv, "densenet", "densenet121"),
    "unet": partial(in_tests, "convolutional", "UNet"),
    "ssd300": partial(in_tests, "convolutional", "SSD300", "ChannelLength"),
    "elman": partial(in_tests, "recurrent", "Elman"),
    "text_classifier": partial(in_tests, "recurrent", "Classifier"),
    "tagger": partial(in_tests, "recurrent", "Tagger"),
    "translator": partial(in_tests, "recurrent", "translate", package="numpy"),
    "speaker_encoder": partial(in_file, "Resemblyzer", "voice_encoder.py", "VoiceEncoder"),
    "crepe": partial(in_file, "torchcrepe", "model.py", "Crepe"),
    "speech_recognizer": partial(in_tests, "recurrent", "SpeechRecognizer"),
    "transformer": partial(in_tests, "attentive", "Translator"),
    "bert": partial(in_transformers, "Bert"),
    "minilm": partial(in_transformers, "Bert"),
    "gpt2": partial(in_transformers, "GPT2LMHead"),
    "llama": partial(in_transformers, "LlamaForCausalLM"),
    "vit": partial(in_transformers, "ViTForImageClassification"),
    "clip": partial(in_transformers, "CLIP"),
    "whisper": partial(in_transformers, "WhisperForConditionalGeneration"),
    "wide_deep": partial(in_tests, "recommending", "wide_deep", package="numpy"),
    "deepfm": partial(in_tests, "recommending", "DeepFM"),
    "two_tower": partial(in_tests, "recommending", "two_tower", package="numpy"),
}
"""Reference implementation of each spec."""

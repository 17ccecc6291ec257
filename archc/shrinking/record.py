"""Record of a search in a file, so that an interrupted search goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archc.driver.graph_views import print_graph
from archc.ir.graph import Graph
from archc.shrinking.replaced_file import replaced
from archc.shrinking.trial import Trial
from archc.version import __version__

if TYPE_CHECKING:
    import numpy as np

FILE = "trials.json"


class Record:
    """The trials of one search, written after each trial.

    Args:
        folder: folder of the file; None to keep the trials in memory only.
        key: identifies the model, the data and the options; trials with another key are not used.
    """

    def __init__(self, folder: Path | None, key: str):
        self._path = None if folder is None else folder / FILE
        self._key = key
        self.trials: dict[str, Trial] = {trial.passes: trial for trial in self._read()}
        self.found = len(self.trials)

    def add(self, trial: Trial) -> None:
        """Add a trial, and replace the file."""
        self.trials[trial.passes] = trial
        if self._path is None:
            return
        content = {"key": self._key, "trials": [each.to_json() for each in self.trials.values()]}
        with replaced(self._path) as stream:
            stream.write(f"{json.dumps(content, indent=2)}\n".encode())

    def _read(self) -> Sequence[Trial]:
        """Trials of an earlier run; none if the file is missing, damaged, or of another search."""
        if self._path is None:
            return []
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return [Trial.from_json(each) for each in content["trials"]] if content["key"] == self._key else []
        except (OSError, ValueError, KeyError, TypeError):
            return []


def key_of(graph: Graph, data: Mapping[str, np.ndarray[Any, Any]], options: Sequence[object]) -> str:
    """Hash of the text and the weights of a model, the data, and the options of a search."""
    digest = hashlib.sha256()
    for part in (__version__, print_graph(graph), *map(str, options)):
        digest.update(part.encode() + b"\0")
    for path in sorted(graph.weights):
        digest.update(path.encode() + b"\0" + graph.weight_values(path).tobytes())
    for name in sorted(data):
        digest.update(f"{name} {data[name].dtype} {data[name].shape}\0".encode() + data[name].tobytes())
    return digest.hexdigest()

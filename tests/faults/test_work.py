"""Short inputs that would take very long give a diagnostic.

`docs/reference/language.md` lists the limits.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from archc.cli import main

CHANCE = Random(0)
NAMES = ["".join(CHANCE.choices("abc", k=90)) for _ in range(800)]


def model(body: str, type: str = "f32[N, 4]") -> str:
    return f"model m {{ input x: {type}\n{body}\n}}\n"


MISSPELT = [*(f"let {name} = 1" for name in NAMES[:300]), *(f"let b{i} = {name}" for i, name in enumerate(NAMES[300:]))]
TEXTS = {
    "nested loops": (
        model("for i in 0..10000 { for j in 0..10000 { x = x -> relu } }\noutput x"),
        "too-many-iterations",
    ),
    "500 unknown names of 90 letters": (model("\n".join(MISSPELT) + "\noutput x"), "unknown-name"),
    "3,000 derived models": (
        model("output x -> relu") + "\n".join(f"model m{i} = m" for i in range(3000)),
        "too-many-models",
    ),
    "200 pools of a symbolic axis": (
        model(f"x = x{' -> max_pool1d(2) -> pad((1, 1))' * 200}\noutput x -> mean", "f32[N, 2, T]"),
        "size-too-complex",
    ),
    "a product of 2,000 sizes": (
        model(f"output x[:, :{'T*' * 2000}T]", "f32[N, T]"),
        "model-too-large",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, code = TEXTS[name]
    path = tmp_path / "m.arch"
    path.write_text(text)
    assert main(["check", str(path)]) == 1
    assert f"error[{code}]" in capsys.readouterr().err


def test_globs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A matcher with backtracking would take 2^40 steps."""
    path = tmp_path / "m.arch"
    path.write_text(model(f"output x -> {'a' * 90}: linear(4)"))
    passes = f"lowrank(on = '{'*a' * 40}*b')"
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "--passes", passes]) == 1
    assert "error[selector-matches-nothing]" in capsys.readouterr().err


def test_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.arch"
    path.write_text(model("output x -> fc: linear(4)"))
    np.savez(tmp_path / "w.npz", **{"fc.weight": np.zeros((4, 4), np.float32), "fc.bias": np.zeros(4, np.float32)})
    (tmp_path / "map.txt").write_text("\n".join(f"old{i}.* -> new{i}.*" for i in range(100_000)))
    options = ["--weights", str(tmp_path / "w.npz"), "--rename", str(tmp_path / "map.txt")]
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), *options]) == 1
    assert "error[too-many-rules]" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit memory so")
@pytest.mark.parametrize("name", ["blow_up_blocks", "blow_up_floor_chain", "blow_up_sizes"])
def test_memory(name: str) -> None:
    """The process has 500 MB of address space."""
    command = [sys.executable, "-m", "archc", "check", str(Path(__file__).parent / f"{name}.arch")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (500_000_000, 500_000_000))

    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "error[" in done.stderr and "bug in archc" not in done.stderr

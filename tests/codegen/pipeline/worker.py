"""Process of a pipeline under test: infer, train with both schedules, and save the results.

Usage: worker.py PIPELINE.py DATA.npz MICROBATCHES OUT
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(program: str, data: str, microbatches: int, out: str) -> None:
    torch.set_num_threads(1)
    pipeline = imported(Path(program))
    number, device = pipeline.connect("cpu", timeout=60)
    arrays = np.load(data)
    inputs = [torch.from_numpy(arrays[name]) for name in pipeline.INPUTS]
    target = torch.from_numpy(arrays["target"])
    example = [x[: len(x) // microbatches] for x in inputs]
    found: dict[str, object] = {}

    module = pipeline.load_stage(number, device)
    stage = pipeline.build_stage(module, number, device, example)
    schedule = pipeline.make_schedule(stage, microbatches)
    with torch.no_grad():
        found["outputs"] = pipeline.step(schedule, stage, inputs)

    for kind in ("gpipe", "1f1b"):
        module = pipeline.load_stage(number, device).train()
        stage = pipeline.build_stage(module, number, device, example)
        schedule = pipeline.make_schedule(stage, microbatches, kind, pipeline.cross_entropy)
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        gradients = []
        for _ in range(2):
            optimizer.zero_grad()
            losses: list[torch.Tensor] = []
            pipeline.step(schedule, stage, inputs, target, losses)
            pipeline.sum_shared_gradients(module, number)
            gradients.append({name: p.grad.clone() for name, p in module.named_parameters()})
            optimizer.step()
        found[kind] = {
            "gradients": gradients,
            "state": module.state_dict(),
            "losses": [loss.item() for loss in losses],
        }
    torch.save(found, Path(out) / f"{number}.pt")
    pipeline.dist.destroy_process_group()


if __name__ == "__main__":
    program, data, microbatches, out = sys.argv[1:]
    main(program, data, int(microbatches), out)

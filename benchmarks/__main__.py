"""Run the benchmarks in sequence and print their results as Markdown.

python -m benchmarks [perceptron check_time ...]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys

from benchmarks.processes import ROOT

SCRIPTS = {
    "digits": "The digit classifier, trained and compressed",
    "pruning": "The digit classifier, pruned",
    "pruned_widths": "Channels pruned to aligned widths",
    "factor_speed": "Single layers with two factors of low rank",
    "narrowed_cnns": "Convolutional networks with fewer channels, beside torch-pruning",
    "perceptron": "A perceptron at a quarter of its rank, and in int8",
    "tutorials": "The tutorials",
    "check_time": "Checking a text",
    "scaling": "Compiling large models",
    "partitioning": "Splitting graphs into stages",
    "memory": "Compiling models with many weights",
    "large_specs": "Compiling the largest specs, without their weights",
    "lengths": "The length of specs",
    "references": "Specs against `transformers`",
    "memory_format": "Convolutions in channels-last layout",
    "int8_models": "int8 models against float ones",
    "int8_kernels": "int8 kernels in PyTorch",
    "resnet_static": "Static int8 convolutional networks against ONNX Runtime's quantizer",
    "depthwise": "A trained network of depthwise convolutions in int8",
    "quantize_dynamic": "ONNX Runtime's quantizer on emitted models",
    "pitch": "A convolutional network with trained weights, factorized",
    "speaker": "The speaker encoder with trained weights, in int8",
    "quantizers": "Quantizers of a Transformer with trained weights",
    "structures": "A Transformer with trained weights, factorized, narrowed, shortened and masked",
    "pivoted": "Low-rank factors with an identity block",
    "shrinking": "`archc shrink` on a Transformer with trained weights, beside single methods",
    "recurrent_int8": "Recurrent layers in int8 in ONNX Runtime",
    "packed_weights": "Forms of int4 weights in ONNX",
    "onnx_forms": "Quantized models with and without operators of ONNX Runtime",
    "streaming_quant": "Quantizing a large model in little memory",
}
"""Heading of each benchmark script."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scripts", nargs="*", metavar="SCRIPT", help=f"one or several of {', '.join(SCRIPTS)} (default: all)"
    )
    chosen = parser.parse_args().scripts or list(SCRIPTS)
    for name in chosen:
        if name not in SCRIPTS:
            parser.error(f"there is no benchmark `{name}`; there are {', '.join(SCRIPTS)}")
    print(f"# Benchmarks\n\nPython {platform.python_version()} on {platform.machine()}.", flush=True)
    failed = []
    for name in chosen:
        print(f"\n## {SCRIPTS[name]}\n\n`python -m benchmarks.{name}`\n", flush=True)
        # A separate process for each script: its imports must not affect the next measurement.
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

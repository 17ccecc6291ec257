"""Latency of the int8 kernels of PyTorch that an emitted program could call.

For each shape and batch, the float operator is compared with three kinds of kernels:

- `torch._int_mm`;
- the oneDNN operators on plain tensors (`torch.ops.onednn.qlinear_pointwise`, `qconv_pointwise`);
- the fbgemm operators on packed parameters (`torch.ops.quantized.linear`, `linear_dynamic`, `conv2d`).

Every row has float32 operands and results, so its time includes input quantization and output scaling.  Rows marked
"kernel" exclude input quantization.  The runs of one shape are interleaved.  The output has the median, the speedup
over float (larger is faster), and the largest error against the float operator, relative to the largest output of the
float operator.

The activations of `qlinear_pointwise` are uint8.  With int8 activations, it falls back to a reference loop, which is
about 100 times slower than float at batch 1, and 800 times slower at batch 256.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Contenders = dict[str, Callable[[], Tensor]]

LINEARS = ((384, 384), (1024, 4096), (4096, 1024))
# Input channels, output channels and image side: two layers of the digit classifier, and one layer of a ResNet.
CONVS = ((1, 32, 28), (32, 64, 13), (256, 256, 4))
KERNEL = 3


@dataclass(frozen=True)
class Int8:
    """Quantized layer: s8 `weight` with one scale per row, and the scale and zero point of its u8 input.

    `no_zero_points` are the zero points of the rows of the weight, which are all 0.
    """

    weight: Tensor
    weight_scale: Tensor
    no_zero_points: Tensor
    scale: float
    zero_point: int

    @classmethod
    def of(cls, x: Tensor, weight: Tensor) -> Int8:
        weight_scale = weight.flatten(1).abs().amax(1) / 127
        rows = (-1,) + (1,) * (weight.dim() - 1)
        low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
        scale = (high - low) / 255
        return cls(
            weight=(weight / weight_scale.view(rows)).round().to(torch.int8),
            weight_scale=weight_scale,
            no_zero_points=torch.zeros(len(weight), dtype=torch.int64),
            scale=scale,
            zero_point=round(-low / scale),
        )

    def quantize_s8(self, x: Tensor) -> Tensor:
        """Quantize to u8 codes minus 128: PyTorch vectorizes the cast to int8, but not the cast to uint8."""
        return (x / self.scale).round_().add_(self.zero_point - 128).clamp_(-128, 127).to(torch.int8)

    def quantize_u8(self, x: Tensor) -> Tensor:
        return self.quantize_s8(x).view(torch.uint8).bitwise_xor_(128)

    def fbgemm_weight(self) -> Tensor:
        return torch._make_per_channel_quantized_tensor(self.weight, self.weight_scale.double(), self.no_zero_points, 0)


def dynamic_range(x: Tensor) -> tuple[float, int]:
    """Scale and zero point as in DynamicQuantizeLinear of ONNX."""
    low, high = (bound.item() for bound in torch.aminmax(x))
    scale = (max(high, 0.0) - min(low, 0.0)) / 255
    return scale, round(-min(low, 0.0) / scale)


def linear_contenders(in_features: int, out_features: int, batch: int) -> Contenders:
    x = torch.randn(batch, in_features)
    weight, bias = torch.randn(out_features, in_features) / in_features**0.5, torch.randn(out_features)
    q = Int8.of(x, weight)
    codes = q.quantize_u8(x)
    combined_scale = q.weight_scale * q.scale
    # The zero point times a row sum of the weight is constant, so the bias includes this product.
    shifted_bias = bias - (q.zero_point - 128) * combined_scale * q.weight.sum(1, dtype=torch.int32)
    onednn_weight = torch.ops.onednn.qlinear_prepack(q.weight, None)
    fbgemm_weight = torch.ops.quantized.linear_prepack(q.fbgemm_weight(), bias)
    output_scale = F.linear(x, weight, bias).abs().max().item() / 127

    def onednn(codes: Tensor, scale: float, zero_point: int) -> Tensor:
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, scale, zero_point, onednn_weight, q.weight_scale, q.no_zero_points, bias,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return result

    def onednn_dynamic() -> Tensor:
        scale, zero_point = dynamic_range(x)
        codes = (x / scale).round_().add_(zero_point - 128).clamp_(-128, 127).to(torch.int8)
        return onednn(codes.view(torch.uint8).bitwise_xor_(128), scale, zero_point)

    def int_mm_dynamic() -> Tensor:
        scale = x.abs().amax() / 127
        codes = (x / scale).round_().to(torch.int8)
        return torch._int_mm(codes, q.weight.t()).float().mul_(q.weight_scale * scale).add_(bias)

    def fbgemm_static() -> Tensor:
        codes = torch.quantize_per_tensor(x, q.scale, q.zero_point, torch.quint8)
        y: Tensor = torch.ops.quantized.linear(codes, fbgemm_weight, output_scale, 128)
        return y.dequantize()

    return {
        "float": lambda: F.linear(x, weight, bias),
        "onednn static": lambda: onednn(q.quantize_u8(x), q.scale, q.zero_point),
        "onednn static, kernel": lambda: onednn(codes, q.scale, q.zero_point),
        "onednn dynamic": onednn_dynamic,
        "_int_mm static": lambda: (
            torch._int_mm(q.quantize_s8(x), q.weight.t()).float().mul_(combined_scale).add_(shifted_bias)
        ),
        "_int_mm static, columns": lambda: (
            torch._int_mm(q.weight, q.quantize_s8(x).t())
            .t()
            .contiguous()
            .float()
            .mul_(combined_scale)
            .add_(shifted_bias)
        ),
        "_int_mm dynamic": int_mm_dynamic,
        "fbgemm static, int8 out": fbgemm_static,
        "fbgemm static, float out": lambda: torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x, q.scale, q.zero_point, fbgemm_weight
        ),
        "fbgemm dynamic": lambda: torch.ops.quantized.linear_dynamic(x, fbgemm_weight),
        "weight only": lambda: F.linear(x, q.weight * q.weight_scale[:, None], bias),
    }


def conv_contenders(in_channels: int, out_channels: int, side: int, batch: int) -> Contenders:
    x = torch.randn(batch, in_channels, side, side)
    weight = torch.randn(out_channels, in_channels, KERNEL, KERNEL) / (in_channels * KERNEL**2) ** 0.5
    bias = torch.randn(out_channels)
    geometry = ([1, 1], [0, 0], [1, 1], 1)  # stride, padding, dilation, groups
    q = Int8.of(x, weight)
    codes = q.quantize_u8(x)
    onednn_weight = torch.ops.onednn.qconv_prepack(q.weight, q.weight_scale, 1.0, 0, *geometry, None)
    # Calls do not convert the weight if the bias includes the zero point and the weight is packed for this input shape.
    fitting_weight = torch.ops.onednn.qconv_prepack(q.weight, q.weight_scale, 1.0, 0, *geometry, list(x.shape))
    row_sums = q.weight.flatten(1).sum(1, dtype=torch.int32)
    fitting_bias = bias - q.zero_point * q.scale * q.weight_scale * row_sums
    fbgemm_weight = torch.ops.quantized.conv2d_prepack(q.fbgemm_weight(), bias, *geometry)
    output_scale = F.conv2d(x, weight, bias).abs().max().item() / 127
    combined_scale = q.weight_scale * q.scale
    out_side = side - KERNEL + 1

    def onednn(codes: Tensor, weight: Tensor, zero_point: int, bias: Tensor) -> Tensor:
        result: Tensor = torch.ops.onednn.qconv_pointwise(
            codes, q.scale, zero_point, weight, q.weight_scale, q.no_zero_points, bias, *geometry,
            1.0, 0, torch.float32, "none", [], None,
        )  # fmt: skip
        return result

    def int_mm() -> Tensor:
        patches = F.unfold(q.quantize_s8(x).float(), KERNEL).transpose(1, 2).flatten(0, 1).to(torch.int8)
        shift = bias - (q.zero_point - 128) * combined_scale * row_sums
        y = torch._int_mm(patches, q.weight.flatten(1).t()).float().mul_(combined_scale).add_(shift)
        return y.view(batch, out_side, out_side, out_channels).permute(0, 3, 1, 2)

    def fbgemm() -> Tensor:
        codes = torch.quantize_per_tensor(x, q.scale, q.zero_point, torch.quint8)
        y: Tensor = torch.ops.quantized.conv2d(codes, fbgemm_weight, output_scale, 128)
        return y.dequantize()

    channels_last = x.contiguous(memory_format=torch.channels_last)
    weight_channels_last = weight.contiguous(memory_format=torch.channels_last)
    return {
        "float": lambda: F.conv2d(x, weight, bias),
        "float, channels last": lambda: F.conv2d(channels_last, weight_channels_last, bias),
        "onednn static": lambda: onednn(q.quantize_u8(x), fitting_weight, 0, fitting_bias),
        "onednn, kernel": lambda: onednn(codes, fitting_weight, 0, fitting_bias),
        "onednn, weight converted": lambda: onednn(codes, onednn_weight, q.zero_point, bias),
        "_int_mm on patches": int_mm,
        "fbgemm static, int8 out": fbgemm,
    }


def measure(contenders: Contenders, rounds: int, seconds: float) -> dict[str, float]:
    """Median seconds per call in interleaved rounds, so that machine load affects all contenders."""
    repeats: dict[str, int] = {}
    for name, run in contenders.items():
        run()  # the first call packs, allocates and compiles
        start = time.perf_counter()
        run()
        repeats[name] = max(1, int(seconds / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(samples) for name, samples in times.items()}


def report(title: str, contenders: Contenders, rounds: int, seconds: float) -> None:
    expected = contenders["float"]()
    medians = measure(contenders, rounds, seconds)
    print(f"\n{title}")
    for name, median in medians.items():
        error = (contenders[name]() - expected).abs().max() / expected.abs().max()
        print(f"  {name:26}{median * 1e6:10.0f} us {medians['float'] / median:7.2f}x   error {error:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 256], help="batch sizes (default: 1 32 256)")
    parser.add_argument("--rounds", type=int, default=7, help="number of interleaved rounds (default: 7)")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="duration of a contender in one round (default: 0.02)"
    )
    parser.add_argument("--threads", type=int, default=1, help="number of threads of torch (default: 1)")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    # The fbgemm operators need quantized tensors, and PyTorch warns that these tensors are deprecated.
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {torch.backends.cpu.get_cpu_capability()}")
    with torch.inference_mode():
        for batch in options.batch:
            for in_features, out_features in LINEARS:
                contenders = linear_contenders(in_features, out_features, batch)
                title = f"linear {in_features} -> {out_features}, batch {batch}"
                report(title, contenders, options.rounds, options.seconds)
            for in_channels, out_channels, side in CONVS:
                contenders = conv_contenders(in_channels, out_channels, side, batch)
                title = f"conv2d {in_channels} -> {out_channels}, {KERNEL}x{KERNEL} on {side}x{side}, batch {batch}"
                report(title, contenders, options.rounds, options.seconds)


if __name__ == "__main__":
    main()

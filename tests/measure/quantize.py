"""Measures the time, memory and error of quantization: `python tests/measure/quantize.py --held-out BOOK...`.

The model is a random one of about 100 million parameters. Its time and the counted work of both models give an estimate
for the released 9B model on the same machine. With `--plain FOLDER`, a trained model is quantized instead, in groups of
32, 64 and 128. Prints one JSON object.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.quantize import (
    DEFAULT_CALIBRATION,
    DEFAULT_HELD_OUT,
    QuantizeFinished,
    QuantizeSettings,
    Report,
    quantize,
)

_HUNDRED_MILLION = {
    "model_type": "minicpm_sala", "vocab_size": 8192, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 9, "mixer_types": ["minicpm4", *["lightning-attn"] * 7, "minicpm4"],
    "num_attention_heads": 12, "num_key_value_heads": 2, "head_dim": 64,
    "lightning_nh": 12, "lightning_nkv": 12, "lightning_head_dim": 64, "dtype": "bfloat16", "eos_token_id": [2, 0],
}  # fmt: skip
_RELEASED = {
    "model_type": "minicpm_sala", "vocab_size": 73448, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
    "mixer_types": ["minicpm4" if i in (0, 9, 16, 17, 22, 29, 30, 31) else "lightning-attn" for i in range(32)],
    "lightning_nh": 32, "lightning_nkv": 32, "lightning_head_dim": 128,
}  # fmt: skip


def write_random_model(folder: Path) -> Path:
    """Write the model of 100 million parameters in bfloat16.

    Input columns differ in magnitude, so that activations do too, as in trained models.
    """
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(resolve_model(EMBEDDED) / name, folder)
    (folder / "config.json").write_text(json.dumps(_HUNDRED_MILLION))
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in expected_shapes(SalaConfig.from_dict(_HUNDRED_MILLION)).items():
        noise = torch.randn(shape, generator=random)
        if len(shape) == 2:
            noise *= shape[1] ** -0.5 * torch.logspace(0.3, -0.7, shape[1])
        weights[name] = (noise if len(shape) == 2 else 1 + 0.3 * noise).bfloat16()
    save_file(weights, folder / "model.safetensors")
    return folder


def work(raw: dict, tokens: int, held_out_tokens: int) -> dict[str, float]:
    """FLOPs of the layers: `forward` in the model's dtype, `hessian` and `solve` in float32."""
    config = SalaConfig.from_dict(raw)
    D, F = config.hidden_size, config.intermediate_size
    forward = hessian = solve = 0.0
    for mixer in config.mixer_types:
        H = config.lightning_nh * config.lightning_head_dim
        kv = config.lightning_nkv * config.lightning_head_dim
        if mixer == "minicpm4":
            H, kv = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        weights = D * (3 * H + 2 * kv + 3 * F)
        # gate and up are computed twice
        forward += 2 * tokens * (weights + 2 * D * F) + 2 * 3 * held_out_tokens * weights
        hessian += 2 * tokens * (2 * D**2 + H**2 + F**2)
        for rows, columns in ((H + 2 * kv, D), (D, H), (2 * F, D), (D, F)):
            solve += 4 / 3 * columns**3 + 7 * rows * columns**2  # factorization; updates and three error measurements
    return {"forward": forward, "hessian": hessian, "solve": solve}


def run(source: str | Path, settings: QuantizeSettings, arguments: argparse.Namespace) -> Report:
    """Quantize into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        events = quantize(
            source,
            Path(folder) / "out",
            settings,
            calibration=arguments.calibration or DEFAULT_CALIBRATION,
            held_out=arguments.held_out or DEFAULT_HELD_OUT,
            device=arguments.device,
        )
        for event in events:
            if isinstance(event, QuantizeFinished):
                return event.report
    raise AssertionError("quantize ended without QuantizeFinished")


def row(report: Report) -> dict[str, object]:
    """The columns of a report that are kept."""
    matrices = [matrix for layer in report.layers for matrix in layer.matrices]
    return {
        "group_size": report.settings["group_size"],
        **asdict(report.perplexity),
        "mean_error": sum(matrix.error for matrix in matrices) / len(matrices),
        "mean_error_rtn": sum(matrix.error_rtn for matrix in matrices) / len(matrices),
        "seconds": report.seconds,
        "cpu_seconds": report.cpu_seconds,
        "peak_memory_bytes": report.peak_memory_bytes,
        "peak_device_bytes": report.peak_device_bytes,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "calibration_tokens": report.calibration["tokens"],
        "held_out_tokens": report.held_out["tokens"],
        "device": report.device,
        "dtype": report.dtype,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(prog="tests/measure/quantize.py", description=__doc__)
    parser.add_argument("--held-out", type=Path, nargs="+", default=[])
    parser.add_argument("--calibration", type=Path, nargs="+", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--groups", type=int, nargs="*", default=[32, 64, 128])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plain", type=Path, help="the embedded model as training left it; the shipped one is int4")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    size = {"samples": arguments.samples, "sample_tokens": arguments.tokens}
    if arguments.plain:
        plans = [QuantizeSettings(group_size=group, **size) for group in arguments.groups]
        found["embedded"] = [row(run(arguments.plain, plan, arguments)) for plan in plans]
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = run(write_random_model(Path(folder)), QuantizeSettings(**size), arguments)
        measured = row(report)
        held_out = report.held_out["tokens"]
        found["random"] = measured | {
            "work": work(_HUNDRED_MILLION, report.calibration["tokens"], held_out),
            "work_9b_same_text": work(_RELEASED, report.calibration["tokens"], held_out),
            "work_9b_128_x_2048": work(_RELEASED, 128 * 2048, held_out),
        }
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

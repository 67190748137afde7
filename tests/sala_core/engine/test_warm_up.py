"""The kernels compiled at load are all that reading and answering launch, whatever the lengths."""

import json
import subprocess
import sys

import pytest
import torch
from sala_kernels import has_triton

from sala_core import Engine
from sala_core.engine import warm_up
from sala_core.errors import DeviceError
from sala_core.events import KernelProgress

pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed on this platform")

_MODEL = """
import dataclasses, json, sys, torch
from sala_core.bench.random_weights import sala_weights
from sala_core.bench.sizes import SALA_9B
from sala_core.model.forward import SalaModel
META = torch.device("meta")

def model(kv, packed, mixers):
    config = dataclasses.replace(SALA_9B, num_hidden_layers=len(mixers), mixer_types=mixers)
    weights = sala_weights(config, torch.bfloat16, META, packed=packed)
    return SalaModel(config, weights, backend="triton", kv=kv)
"""

_COVER = (
    _MODEL
    + """
from sala_core.engine.decode import Pass
from sala_core.engine.sampling import Sampler, SamplingParams
from sala_core.engine.warm_up import kernel_launches
from sala_core.evidence.lookup import PerQueryTrace
from sala_core.model.forward import AttentionTrace
from sala_kernels.inspection.compiler import _specialize
from sala_kernels.launch import recorded

def key(launch):
    \"\"\"What Triton compiles a variant for; pointers that a kernel specializes on, with their real alignment.\"\"\"
    flags = {p.name: p.do_not_specialize or p.do_not_specialize_on_alignment for p in launch.kernel.params}
    aligned = [
        (name, x.storage_offset() * x.itemsize % 16 == 0)
        for name, x in launch.arguments.items()
        if isinstance(x, torch.Tensor) and not flags[name]
    ]
    name = launch.kernel.__module__ + "." + launch.kernel.__name__
    return name, repr(_specialize(launch)), repr(aligned), launch.num_warps, launch.num_stages

kv, packed, card, chunk = json.loads(sys.argv[1])
full = model(kv, packed, ("minicpm4", "lightning-attn", "lightning-attn", "minicpm4", "lightning-attn", "minicpm4"))
compiled = {key(launch) for launch in kernel_launches(full, chunk, card=card)}
used = set()

def state(position, room):
    made = part.new_state()
    made.reserve(position + room)
    made.set_position(position)
    return made

part = model(kv, packed, ("minicpm4", "lightning-attn", "minicpm4"))
with torch.inference_mode():
    for position in (0, 5, 4100, 8195, 100_003, 600_016):
        for T in [*range(1, 41), 70, 200, 999, chunk] if position == 8195 else [1, 2, 13, 16, 40, 333, chunk]:
            ids = torch.empty(T, dtype=torch.int64, device=META)
            calls = [{"last_only": True}]
            if T % 3 == 1:
                calls += [{"trace": AttentionTrace()}, {"blocks": torch.empty(62, dtype=torch.int64, device=META)}]
            if T <= 16:
                calls.append({"dense": True, "trace": PerQueryTrace(T), "num_layers": 1})
            for options in calls:
                with recorded(card) as launches:
                    part.logits(part.prefill(state(position, T + T % 5 * 100), ids, **options)[-1:])
                used |= {key(launch) for launch in launches}
    for capacity in (1024, 6001, 100_001, 600_003, 600_016):
        for size in (1, 4, 16):
            for traced in (False, True):
                held = state(capacity - 16, 16)
                sampler = Sampler(SamplingParams(), part.config.vocab_size, [])
                mass = torch.zeros(len(held.sparse), held.capacity, device=META) if traced else None
                with recorded(card) as launches:
                    run = Pass(part, held, sampler.chooser, sampler.seen_tokens.to(META), mass, size, None)
                    run.compute_on_device()
                    if size > 1:
                        run.confirm_on_device()
                used |= {key(launch) for launch in launches}
print(json.dumps([len(compiled), len(used), sorted({name for name, *_ in used - compiled})]))
"""
)

_COMPILE = (
    _MODEL
    + """
from sala_kernels.launch import recorded
from sala_kernels.warm_up import compile_launches
from sala_kernels import rms_norm, swiglu
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

class Driver:
    \"\"\"A card for which Triton compiles, but on which nothing can be launched.\"\"\"
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 89, 32))

driver.set_active(Driver())
with recorded(89) as launches:
    for width in (64, 128):
        x = torch.empty(3, width, dtype=torch.bfloat16, device=META)
        rms_norm(x, x[0], 1e-6)
kernel = launches[0].kernel
done = []
compile_launches(launches, done.append)
known = {key: held.asm["cubin"][:4] for key, held in kernel.device_caches[0][0].items()}
compile_launches(launches, done.append)
same = len(kernel.device_caches[0][0])
launches[0].arguments["BLOCK"] = 3  # no power of two: it cannot be compiled
errors = []
for _ in range(2):
    try:
        compile_launches(launches, lambda n: None)
    except RuntimeError as error:
        errors.append(type(error).__name__)
print(json.dumps([done, len(known), same, errors, all(head == b"\\x7fELF" for head in known.values())]))
"""
)


def run(script, environment, tmp_path, *arguments):
    environment |= {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", [("plain", False, 90, 8192), ("int8", True, 89, 4096)])
def test_no_length_and_no_position_compiles_a_kernel_after_the_load(environment, tmp_path, case):
    compiled, used, missing = run(_COVER, environment, tmp_path, json.dumps(case))
    assert missing == []
    assert used > 50
    assert compiled < 100


def test_launches_are_compiled_once_and_errors_are_raised(environment, tmp_path):
    done, known, same, errors, is_machine_code = run(_COMPILE, environment, tmp_path)
    assert done == [1, 2]
    assert known == same == 2
    assert is_machine_code
    assert errors == ["RuntimeError", "RuntimeError"]


class OnCard:
    """What `compile_kernels` needs of a model on a card."""

    can_be_captured = True
    device = torch.device("cuda")


def test_slow_compiling_is_reported_and_fast_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "Card")
    monkeypatch.setattr(warm_up, "kernel_launches", lambda model, chunk, card: [card] * 3)
    times = iter([0.0, 0.1, 2.0, 3.0])
    monkeypatch.setattr(warm_up.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(warm_up, "compile_launches", lambda launches, report: [report(n) for n in (1, 2, 3)])
    events = []
    warm_up.compile_kernels(OnCard(), 1024, events.append)
    assert events == [KernelProgress(kernels_done=n, kernels_total=3) for n in (2, 3)]

    def fail(launches, report):
        raise RuntimeError("PTXAS error: unsupported")

    monkeypatch.setattr(warm_up.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(warm_up, "compile_launches", fail)
    with pytest.raises(DeviceError, match=r"cannot compile a kernel for Card .PTXAS error.*driver"):
        warm_up.compile_kernels(OnCard(), 1024, events.append)


def test_a_cpu_compiles_nothing(make_model, monkeypatch):
    monkeypatch.setattr(warm_up, "kernel_launches", lambda *args, **names: pytest.fail("a CPU launches no kernels"))
    events = []
    engine = Engine.load(make_model(), report=events.append)
    assert events == []
    assert engine.device_note == ""


_SHAPES = """
import json, sys, torch
from sala_core.engine.warm_up import kernel_launches
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.model.forward import SalaModel

counts = []
for raw in json.loads(sys.argv[1]):
    config = SalaConfig.from_dict(raw)
    weights = {name: torch.empty(shape, device="meta") for name, shape in expected_shapes(config).items()}
    model = SalaModel(config, weights, backend="triton", kv="fp8")
    counts.append(len(kernel_launches(model, 1024, card=90)))
print(json.dumps(counts))
"""


def test_the_launches_of_models_of_any_shape_can_be_recorded(environment, tmp_path, make_model):
    """On a card, a model for which this failed could not be loaded."""
    shapes = [
        {"num_hidden_layers": 2, "mixer_types": ["minicpm4"] * 2},
        {"num_hidden_layers": 2, "mixer_types": ["lightning-attn"] * 2},
        {
            "num_attention_heads": 6, "head_dim": 10, "lightning_nh": 5, "lightning_nkv": 1, "attn_use_rope": True,
            "attn_use_output_gate": False, "use_output_gate": False, "use_output_norm": False, "qk_norm": False,
            "lightning_use_rope": False, "tie_word_embeddings": True,
        },
    ]  # fmt: skip
    configs = [json.loads((make_model(**changes) / "config.json").read_text()) for changes in shapes]
    counts = run(_SHAPES, environment, tmp_path, json.dumps(configs))
    assert len(counts) == 3
    assert min(counts) > 10

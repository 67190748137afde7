"""Whole runs: every stage writes a model that the engine loads; killed, stopped and parallel runs give the same one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sala_core.engine.engine import Engine
from sala_core.errors import TrainError
from sala_core.train import checkpoints
from sala_core.train.curves import read_curve
from sala_core.train.events import LayersSelected, Measured, StageDone, StageStarted, StepDone, TrainStopped
from sala_core.train.network.dense import convert
from sala_core.train.run import load_network, train


def run(recipe, out, **options):
    return list(train(recipe, out, device="cpu", **options))


def weights(out, stage):
    return load_file(out / stage / "model" / "model.safetensors")


def losses(curve):
    return [float(row["loss"]) for row in read_curve(curve)]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def full_run(toy, tmp_path_factory):
    """(folder, events) of a run of the toy recipe with all stages."""
    out = tmp_path_factory.mktemp("run") / "toy"
    return out, run(toy, out)


@pytest.fixture(scope="module")
def recipe(full_run):
    return full_run[0] / "recipe.toml"


def test_every_stage_writes_a_model_that_computes_the_same_in_the_engine(full_run):
    out, events = full_run
    done = [event.stage for event in events if isinstance(event, StageDone)]
    assert done == ["backbone", "align", "select", "distill", "stable", "decay", "long", "sft"]
    ids = torch.randint(5, 8192, (200,), generator=torch.Generator().manual_seed(0))
    for stage in done:
        engine = Engine.load(out / stage / "model", dtype="float32")
        network = load_network(out / stage / "model")
        network.sparse = True
        with torch.no_grad():
            logits = network.logits(ids[None])[0]
        torch.testing.assert_close(engine.forward(engine.new_state(), ids), logits, rtol=1e-3, atol=1e-3)
        assert engine.tokenizer.decode(engine.tokenizer.encode_content("words")) == "words"


def test_the_curve_is_written_as_csv_and_png(full_run):
    folder = full_run[0] / "backbone"
    rows = read_curve(folder / "log.csv")
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [bool(row["valid_loss"]) for row in rows] == [False, True, False, True]
    assert (folder / "log.png").read_bytes().startswith(b"\x89PNG")


def test_events_report_speed_and_time_left(full_run):
    steps = [event for event in full_run[1] if isinstance(event, StepDone) and event.stage == "backbone"]
    assert all(event.tokens_per_s > 0 for event in steps)
    assert steps[0].seconds_left > steps[-1].seconds_left == 0


def test_alignment_trains_only_the_lightning_mixers(full_run):
    out, events = full_run
    backbone, aligned = weights(out, "backbone"), weights(out, "align")
    assert all(torch.equal(aligned[name], backbone[name]) for name in aligned if ".self_attn." not in name)
    assert not torch.equal(aligned["model.layers.1.self_attn.q_proj.weight"],
                           backbone["model.layers.1.self_attn.q_proj.weight"])  # fmt: skip
    started = next(event for event in events if isinstance(event, StageStarted) and event.stage == "align")
    assert started.num_trained == sum(t.numel() for name, t in aligned.items() if ".self_attn." in name)


def test_selection_reports_every_layer_and_combines_backbone_and_aligned_mixers(full_run):
    out, events = full_run
    layers = next(event.layers for event in events if isinstance(event, LayersSelected))
    report = json.loads((out / "select" / "importance.json").read_text())
    assert report["softmax_layers"] == list(layers) == [0, 3]
    assert [row["layer"] for row in report["layers"]] == [0, 1, 2, 3]
    best, lowest = max(row["recall"] for row in report["layers"]), min(row["loss"] for row in report["layers"])
    for row in report["layers"]:
        assert row["score"] == pytest.approx((best - row["recall"]) / (row["loss"] - lowest + 1e-3))
    config = json.loads((out / "select" / "model" / "config.json").read_text())
    assert config["mixer_types"] == ["minicpm4", "lightning-attn", "lightning-attn", "minicpm4"]
    assert (config["attn_use_rope"], config["lightning_use_rope"]) == (False, True)
    assert config["sparse_config"]["topk"] == 3
    hybrid, aligned, backbone = (weights(out, stage) for stage in ("select", "align", "backbone"))
    assert torch.equal(
        hybrid["model.layers.1.self_attn.v_proj.weight"], aligned["model.layers.1.self_attn.v_proj.weight"]
    )
    assert torch.equal(
        hybrid["model.layers.3.self_attn.v_proj.weight"], backbone["model.layers.3.self_attn.v_proj.weight"]
    )


def test_a_converted_dense_model_is_aligned_and_distilled(write_recipe, tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 16, "vocab_size": 8192}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": [2, 0], "bos_token_id": 0}
    Qwen3ForCausalLM(Qwen3Config(**sizes, **heads)).save_pretrained(tmp_path / "dense")
    convert(tmp_path / "dense", tmp_path / "backbone")
    recipe = write_recipe(stages=["align", "select", "distill"])
    text = recipe.read_text()
    model = text[text.index("[model]") : text.index("[hybrid]")]
    recipe.write_text(text.replace(model, "").replace("seed = 0", 'seed = 0\nstart = "backbone"'))
    events = run(recipe, tmp_path / "out")
    losses = [event.loss for event in events if isinstance(event, StepDone) and event.stage == "align"]
    assert losses[-1] < losses[0]
    config = Engine.load(tmp_path / "out" / "distill" / "model").model.config
    assert config.attn_qk_norm
    assert config.sparse_layers == (0, 2)
    assert weights(tmp_path / "out", "distill")["model.layers.1.self_attn.k_proj.weight"].shape == (64, 32)


def test_finished_stages_are_not_repeated(full_run, toy):
    events = run(toy, full_run[0])
    assert len(events) == 8
    assert all(isinstance(event, StageDone) and event.reused for event in events)


def test_another_recipe_is_refused(full_run, write_recipe):
    with pytest.raises(TrainError, match="another recipe"):
        run(write_recipe(("hidden_size = 32", "hidden_size = 48")), full_run[0], stage="backbone")


@pytest.mark.parametrize(("stage", "killed_after"), [("backbone", 3), ("align", 1), ("long", 3)])
def test_a_killed_stage_resumes_to_the_same_bits(full_run, toy, tmp_path, stage, killed_after):
    """Killed between two checkpoints or before the first. A partly written file of the killed process does no harm."""
    before = {"backbone": (), "align": ("backbone",), "long": ("decay",)}[stage]
    for name in before:
        shutil.copytree(full_run[0] / name, tmp_path / name)
    events = train(toy, tmp_path, stage=stage, device="cpu")
    for event in events:
        if isinstance(event, StepDone) and event.step == killed_after:
            break
    events.close()
    folder = tmp_path / stage / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000009-0001.safetensors").write_bytes(b"half a file")
    again = run(toy, tmp_path, stage=stage)
    started = next(event for event in again if isinstance(event, StageStarted))
    assert started.step == killed_after // 2 * 2
    assert_equal(weights(tmp_path, stage), weights(full_run[0], stage))
    a, b = (read_curve(out / stage / "log.csv") for out in (tmp_path, full_run[0]))
    assert [(row["step"], row["loss"], row["valid_loss"]) for row in a] == [
        (row["step"], row["loss"], row["valid_loss"]) for row in b
    ]


def test_a_stopped_stage_saves_its_step_and_resumes_to_the_same_bits(full_run, toy, tmp_path):
    steps = []
    events = []
    for event in train(toy, tmp_path, stage="backbone", device="cpu", should_stop=lambda: len(steps) == 3):
        events.append(event)
        if isinstance(event, StepDone):
            steps.append(event.step)
    assert isinstance(events[-1], TrainStopped)
    assert events[-1].step == 3
    assert checkpoints.steps(tmp_path / "backbone" / "checkpoints") == [2, 3]
    run(toy, tmp_path, stage="backbone")
    assert_equal(weights(tmp_path, "backbone"), weights(full_run[0], "backbone"))


def test_decay_continues_the_optimizer_states_of_stable(full_run):
    stable, _ = checkpoints.load(full_run[0] / "stable" / "checkpoints")
    decay, _ = checkpoints.load(full_run[0] / "decay" / "checkpoints")
    counts = {name: value for name, value in decay.items() if name.startswith("optimizer/") and name.endswith("/step")}
    assert counts
    assert all(int(value) == int(stable[name]) + 2 for name, value in counts.items())


AUXILIARY = (
    ("softmax_share = 0.5", 'placement = [0, 3]\nbegin = "copying"'),
    ("[stable]\nsteps = 2\nlength = 64", "[stable]\nsteps = 4\nlength = 192\nblock_loss = 0.3\nmemory_loss = 0.2"),
    ("learning_rate = 2e-3\n\n[decay]\nsteps = 2\nlength = 64",
     "learning_rate = 2e-3\nmix = { conversation = 1.0 }\n\n[decay]\nsteps = 3\nlength = 192\nblock_loss = 0.2"),
    ("final_learning_rate = 1e-4\nschedule = \"exponential\"",
     "final_learning_rate = 1e-4\nschedule = \"exponential\"\nmix = { conversation = 1.0 }"),
    ("log_every = 1", "log_every = 1\ntarget_share = 0.4"),
)  # fmt: skip


@pytest.fixture
def auxiliary_recipe(write_recipe):
    return write_recipe(*AUXILIARY, stages=["stable", "decay"], name="auxiliary")


@pytest.fixture
def auxiliary_run(auxiliary_recipe, tmp_path):
    run(auxiliary_recipe, tmp_path / "auxiliary")
    return tmp_path / "auxiliary"


def test_auxiliary_losses_add_nothing_to_the_model_and_the_next_stage_continues_their_bank_and_memory(auxiliary_run):
    stable, decay = (checkpoints.load(auxiliary_run / stage / "checkpoints")[0] for stage in ("stable", "decay"))
    memory = {name for name in stable if name.startswith("weights/memory.")}
    assert len(memory) == 4
    assert {name.removeprefix("weights/") for name in stable if name.startswith("weights/")} - {
        name.removeprefix("weights/") for name in memory
    } == weights(auxiliary_run, "stable").keys()
    pushed = 3 * 4 * ((192 - 8) // 4 + 1)
    for name in memory:
        assert (decay[name] - stable[name]).abs().max() < 0.1 < stable[name].abs().max()
    assert decay["remembered/bank"].shape == (2, 1, 8192, 16)
    assert torch.equal(decay["remembered/bank"][:, :, :-pushed], stable["remembered/bank"][:, :, pushed:])
    ids = torch.randint(5, 8192, (200,), generator=torch.Generator().manual_seed(0))
    network, engine = load_network(auxiliary_run / "decay" / "model"), Engine.load(auxiliary_run / "decay" / "model")
    network.sparse = True
    with torch.no_grad():
        logits = network.logits(ids[None])[0]
    torch.testing.assert_close(engine.forward(engine.new_state(), ids), logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("stage", "killed_after"), [("stable", 3), ("decay", 1)])
def test_a_killed_stage_with_auxiliary_losses_resumes_to_the_same_bits(
    auxiliary_run, auxiliary_recipe, tmp_path, stage, killed_after
):
    out = tmp_path / "killed"
    if stage == "decay":
        shutil.copytree(auxiliary_run / "stable", out / "stable")
    events = train(auxiliary_recipe, out, stage=stage, device="cpu")
    for event in events:
        if isinstance(event, StepDone) and event.step == killed_after:
            break
    events.close()
    run(auxiliary_recipe, out, stage=stage)
    killed, full_run = (checkpoints.load(folder / stage / "checkpoints")[0] for folder in (out, auxiliary_run))
    assert_equal(*({name: t for name, t in kept.items() if "random/" not in name} for kept in (killed, full_run)))
    assert losses(out / stage / "log.csv") == losses(auxiliary_run / stage / "log.csv")


def test_a_stage_without_auxiliary_losses_drops_their_state(write_recipe, tmp_path):
    changes = [(old, new.replace("\nblock_loss = 0.2", "")) for old, new in AUXILIARY]
    run(write_recipe(*changes, stages=["stable", "decay"]), tmp_path / "out")
    decay, _ = checkpoints.load(tmp_path / "out" / "decay" / "checkpoints")
    assert not [name for name in decay if "memory" in name or "remembered" in name]


def test_models_and_checkpoints_are_split_into_files_of_the_given_size(write_recipe, tmp_path):
    changes = [("log_every = 1", "log_every = 1\nmax_file_bytes = 200_000")]
    changes.append(("softmax_share = 0.5", 'softmax_share = 0.5\nplacement = "even"'))
    recipe = write_recipe(*changes, stages=["stable"])
    run(recipe, tmp_path / "out")
    files = list((tmp_path / "out").rglob("*.safetensors"))
    large = [file for file in files if file.stat().st_size > 300_000]
    assert len(files) == 7
    assert all(len(load_file(file)) == 1 for file in large)  # the embedding alone
    assert Engine.load(tmp_path / "out" / "stable" / "model").model.config.sparse_layers == (0, 3)


def test_gradient_accumulation_gives_the_result_of_whole_steps(full_run, write_recipe, tmp_path):
    recipe = write_recipe(("log_every = 1", "log_every = 1\nmicro_rows = 1\nrecompute = true"), stages=["backbone"])
    run(recipe, tmp_path / "out")
    for name, tensor in weights(tmp_path / "out", "backbone").items():
        torch.testing.assert_close(tensor, weights(full_run[0], "backbone")[name], rtol=2e-2, atol=2e-3, msg=name)


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_weights(full_run, write_recipe, tmp_path):
    run(write_recipe(('dtype = "float32"', 'dtype = "bfloat16"'), stages=["backbone"]), tmp_path / "out")
    a, b = (losses(folder / "backbone" / "log.csv") for folder in (tmp_path / "out", full_run[0]))
    assert a == pytest.approx(b, rel=5e-3)
    assert a != b
    saved, _ = checkpoints.load(tmp_path / "out" / "backbone" / "checkpoints")
    assert {tensor.dtype for name, tensor in saved.items() if name.startswith("weights/")} == {torch.float32}


def test_the_held_out_loss_falls(write_recipe, tmp_path):
    recipe = write_recipe(
        ("mix = { text = 0.7, copy = 0.1, key_value = 0.1, needle = 0.1 }", ""),
        ("learning_rate = 4e-3", "learning_rate = 2e-2"),
        ("steps = 4", "steps = 30"),
        ("validate_every = 2", "validate_every = 15"),
        ("save_every = 2", "save_every = 100"),
        stages=["backbone"],
    )
    measured = [event for event in run(recipe, tmp_path / "out") if isinstance(event, Measured)]
    assert measured[0].valid_loss < 8.5
    assert measured[1].valid_loss < measured[0].valid_loss - 0.2


def test_two_processes_give_the_result_of_one(write_recipe, tmp_path, environment):
    """One run is replicated and interrupted once, the other sharded. The same two processes make both runs."""
    adam, stages = ('optimizer = "muon"', 'optimizer = "adamw"'), {"ddp": ["backbone"], "fsdp": ["backbone", "align"]}
    arguments = []
    for parallel in ("ddp", "fsdp"):
        spread = ("save_every = 2", f'save_every = 2\nparallel = "{parallel}"')
        recipe = write_recipe(adam, spread, stages=stages[parallel], name=parallel)
        arguments += [str(recipe), str(tmp_path / parallel / "out")]
    script = Path(__file__).parent / "one_of_two.py"
    port = str(29000 + os.getpid() % 900 * 4)
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={
                **environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        single = write_recipe(adam, stages=["backbone", "align"], name="single")
        run(single, tmp_path / "one")
        for process in processes:
            output, _ = process.communicate(timeout=280)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for parallel in ("ddp", "fsdp"):
        for stage in stages[parallel]:
            one, two = weights(tmp_path / "one", stage), weights(tmp_path / parallel / "out", stage)
            for name in one:
                torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=f"{parallel} {stage} {name}")
            a, b = (
                read_curve(folder / stage / "log.csv") for folder in (tmp_path / "one", tmp_path / parallel / "out")
            )
            assert [float(row["loss"]) for row in b] == pytest.approx([float(row["loss"]) for row in a], rel=1e-3)

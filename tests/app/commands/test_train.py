"""`launch.py train` and `launch.py convert`: output, exit codes, errors."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from app import cli
from app.commands.train import event_text
from app.grammar.parser import parse
from sala_core.engine.engine import Engine
from sala_core.train.events import CharactersReplaced

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)


def run(*line):
    return cli.run(parse([*map(str, line), "--device", "cpu"]))


@pytest.fixture(scope="module")
def toy(root):
    return root / "sala_core" / "train" / "recipes" / "toy.toml"


def test_train_prints_the_stage_its_progress_and_where_the_model_is(toy, tmp_path, capsys):
    assert run("train", "--recipe", toy, "--stage", "backbone", "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "backbone starts: 4 steps, 1.0K tokens, 299K parameters, on cpu"
    assert lines[1].startswith("  backbone 1/4: loss 9.")
    assert "tokens/s, " in lines[1]
    assert any("held-out loss" in line and "recall" in line for line in lines)
    assert lines[-1].endswith(f": {tmp_path / 'out' / 'backbone' / 'model'}")
    assert run("train", "--recipe", toy, "--stage", "backbone", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out == "backbone is already done\n"


def test_replaced_characters_are_told_in_one_line():
    assert event_text(CharactersReplaced(stage="backbone", note="2 characters.")) == "  backbone: 2 characters."


def test_a_missing_previous_stage_is_one_line(toy, tmp_path, capsys):
    assert run("train", "--recipe", toy, "--stage", "distill", "--out", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert err == "error: distill starts from the model of select, which is not done; run that first\n"


@pytest.mark.parametrize(("text", "word"), [("", "lacks the key"), (None, "cannot be read")])
def test_a_bad_recipe_is_one_line(tmp_path, capsys, text, word):
    if text is not None:
        (tmp_path / "r.toml").write_text(text)
    assert run("train", "--recipe", tmp_path / "r.toml", "--out", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_saves_the_step_and_tells_how_to_resume(toy, tmp_path, environment):
    (tmp_path / "long.toml").write_text(
        toy.read_text().replace("../../../", f"{toy.parents[3]}/").replace("steps = 4", "steps = 4000")
    )
    command = [sys.executable, "-c", _PROGRAM, "train", "--recipe", str(tmp_path / "long.toml"), "--out",
               str(tmp_path / "out"), "--stage", "backbone", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "3/4,000" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 128 + signal.SIGINT
    assert "stopped after" in rest
    assert "resumes the run in" in rest
    assert list((tmp_path / "out" / "backbone" / "checkpoints").glob("step-*.json"))


def test_convert_writes_a_backbone_that_loads(root, tmp_path, capsys):
    dense = tmp_path / "dense"
    dense.mkdir()
    sizes = {"vocab_size": 90, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    (dense / "config.json").write_text(json.dumps({**sizes, "model_type": "llama"}))
    shapes = {"embed_tokens": (90, 16), "layers.0.input_layernorm": (16,), "layers.0.post_attention_layernorm": (16,),
              "norm": (16,), "layers.0.mlp.gate_proj": (24, 16), "layers.0.mlp.up_proj": (24, 16),
              "layers.0.mlp.down_proj": (16, 24), "layers.0.self_attn.q_proj": (16, 16),
              "layers.0.self_attn.k_proj": (8, 16), "layers.0.self_attn.v_proj": (8, 16),
              "layers.0.self_attn.o_proj": (16, 16)}  # fmt: skip
    save_file(
        {f"model.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}, dense / "model.safetensors"
    )
    assert run("convert", dense, "--to", tmp_path / "backbone") == 0
    assert "backbone of 1 layers, width 16" in capsys.readouterr().out
    engine = Engine.load(tmp_path / "backbone", dtype="float32")
    assert engine.forward(engine.new_state(), [1, 2, 3]).shape == (3, 90)
    assert run("convert", dense, "--to", tmp_path / "backbone") == 1
    assert "is not empty" in capsys.readouterr().err

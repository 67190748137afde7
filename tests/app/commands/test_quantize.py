"""`launch.py quantize`: what it prints, its exit codes, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys

import pytest

from app import cli
from app.grammar.parser import parse
from sala_core import Engine

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)
_FAST = ("--group-size", "32", "--samples", "4", "--tokens", "128", "--device", "cpu")


def run(*line):
    return cli.run(parse(["quantize", *map(str, line)]))


def test_the_output_has_the_plan_each_matrix_each_layer_and_the_losses(random_model, tmp_path, capsys):
    assert run(random_model, tmp_path / "out", *_FAST) == 0
    out = capsys.readouterr().out
    assert "Quantizing 21 matrices of 3 layers on cpu in " in out
    assert "Left alone: lm_head, o_gate, z_proj (4): not asked for; --include adds it" in out
    assert sum(line.startswith("  ") and "rounded to nearest" in line for line in out.splitlines()) == 21
    assert "self_attn.q_proj" in out
    assert out.count("done in") == 3
    assert "held-out tokens" in out
    assert f"Written to {tmp_path / 'out'}" in out
    Engine.load(tmp_path / "out").forward(Engine.load(tmp_path / "out").new_state(), [1, 2, 3])


def test_json_prints_only_the_report(random_model, tmp_path, capsys):
    assert run(random_model, tmp_path / "out", *_FAST, "--json", "--include", "lm_head,z_proj", "--asymmetric") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out" / "quantize_report.json").read_text())
    assert report["settings"]["include"] == ["lm_head", "z_proj"]
    assert report["settings"]["checkpoint_format"] == "gptq_v2"  # what GPTQModel reads if asymmetric
    assert report["settings"]["act_order"]


def test_options_reach_the_settings(random_model, tmp_path, capsys):
    line = (
        "--layout",
        "autogptq",
        "--asymmetric",
        "--desc-act",
        "--bits",
        "8",
        "--damping",
        "0.1",
        "--no-scale-search",
    )
    assert run(random_model, tmp_path / "out", *_FAST, *line, "--json") == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["checkpoint_format"] == "gptq"
    assert (settings["bits"], settings["sym"], settings["desc_act"], settings["damping"]) == (8, False, True, 0.1)
    assert not settings["scale_search"]
    assert (tmp_path / "out" / "gptq_model-8bit-32g.safetensors").exists()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (("./nothing here", "out"), "there is no model"),
        (("{model}", "{model}"), "holds a model already"),
        (("{model}", "out", "--calibration", "gone.txt"), "cannot be found"),
        (("{model}", "out", "--tokens", "8"), "cannot fill"),
    ],
)
def test_an_error_prints_one_line_and_exits_with_1(random_model, tmp_path, monkeypatch, capsys, line, word):
    monkeypatch.chdir(tmp_path)
    assert run(*(part.format(model=random_model) for part in (*line[:2], *_FAST, *line[2:]))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["src"], "DST"),
        (["src", "dst", "--include", "embed"], "looked up"),
        (["src", "dst", "--include", "down_proj"], "not one of"),
        (["src", "dst", "--bits", "3"], "--bits"),
        (["src", "dst", "--group-size", "100"], "--group-size"),
        (["src", "dst", "--damping", "0"], "above 0"),
        (["src", "dst", "--samples", "-1"], "--samples"),
        (["src", "dst", "--layout", "autogptq", "--format", "gptq_v2"], "AutoGPTQ"),
    ],
)
def test_bad_usage_prints_one_line_and_exits_with_2(capsys, line, word):
    with pytest.raises(SystemExit) as stopped:
        parse(["quantize", *line])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert word in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_an_interrupted_run_is_no_model_and_the_same_command_continues_it(random_model, tmp_path, environment, number):
    out = tmp_path / "out"
    line = [sys.executable, "-c", _PROGRAM, "quantize", str(random_model), str(out), *_FAST]
    line += ["--samples", "24", "--tokens", "256"]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "Layer 0 (" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    out_text, err = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 128 + signal.SIGINT, err
        assert "Run the same command again" in out_text
    assert (out / ".quantizing").is_dir()
    assert not (out / "config.json").exists()
    (out / ".shard-00007.part").write_bytes(b"half a file")
    again = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "Continuing after" in again.stdout
    assert "done by an earlier run" in again.stdout
    assert not [name for name in os.listdir(out) if name.startswith(".")]

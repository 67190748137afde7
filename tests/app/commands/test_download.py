"""`launch.py download` and `launch.py models`: what they print, their exit codes, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app import cli
from app.commands.download import downloaded_text, event_object, planned_text, progress_text
from app.commands.models import fit_text, models_lines
from app.grammar.parser import parse
from sala_core.hub.fit import CPU_SPEED, Fit, Machine
from sala_core.hub.inventory import AvailableModel, LocalModel
from sala_core.hub.records import Downloaded, Planned, Progress
from sala_core.store.library import Library

sys.path.append(str(Path(__file__).resolve().parents[2] / "sala_core" / "hub"))

from local_hub import MODEL, running

_PROGRAM = """
import signal, sys
from app.grammar.parser import parse
from app.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may have inherited to ignore it
sys.exit(run(parse(sys.argv[1:])))
"""


@pytest.fixture
def hub(root):
    with running() as hub:
        hub.add(MODEL, root / "assets" / "embedded")
        yield hub


@pytest.fixture
def start(hub, tmp_path):
    """start(*line) runs the command line in a process that talks to the hub."""
    environ = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "home"),
    }  # fmt: skip

    def run(*line):
        command = [sys.executable, "-c", _PROGRAM, *map(str, line)]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


def test_ctrl_c_says_how_to_continue_and_the_same_command_ends_with_the_model(hub, start, tmp_path):
    hub.gate = threading.Event()
    process = start("download", MODEL)
    part = tmp_path / "cache" / "models--org--tiny" / ".download" / "model.safetensors.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 2 << 20):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out.splitlines()[-1] == "Stopped. Run the same command again to continue: what was fetched is kept."
    assert out.startswith(f"{MODEL}: 8 files, 7 MB, license apache-2.0, into {tmp_path / 'cache'}")
    hub.gate.set()
    hub.gate = None
    out, err = start("download", MODEL, "--json").communicate(timeout=60)
    events = [json.loads(line) for line in out.splitlines()]
    (planned,) = [event for event in events if event["event"] == "planned"]
    assert planned["bytes_here"] > 2 << 20
    assert "progress" in [event["event"] for event in events]
    assert (events[-1]["event"], events[-1]["model"]) == ("downloaded", MODEL)
    assert events[-1]["bytes_fetched"] == planned["bytes_total"] - planned["bytes_here"]
    asked = {request.path.split("/resolve/")[0] for request in hub.requests}
    assert asked == {f"/api/models/{MODEL}", f"/{MODEL}", f"/cdn/{MODEL}/model.safetensors"}, "nothing else is asked"


def test_an_error_is_one_line_and_exit_code_1(start):
    process = start("download", "org/none")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("error: there is no public model 'org/none' at http://127.0.0.1")
    assert err.count("\n") == 1


def test_models_lists_what_sessions_were_read_with_and_needs_no_network(hub, start, tmp_path, random_model):
    with Library.open(tmp_path / "library") as library:
        library.create_session("a", model=str(random_model), fingerprint="f")
    process = start("models", "--json", "--library", tmp_path / "library", tmp_path / "none")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    report = json.loads(out)
    assert [(model["name"], model["status"]) for model in report["here"]] == [
        ("embedded", "complete"), (str(tmp_path / "none"), "missing"), (str(random_model), "complete"),
    ]  # fmt: skip
    assert report["available"][0]["command"] == "python3 launch.py download openbmb/MiniCPM-SALA"
    assert report["machine"]["total_bytes"] > 0
    assert hub.requests == []


def test_models_makes_no_library(tmp_path, capsys):
    assert cli.run(parse(["models", "--library", str(tmp_path / "library"), "--device", "cpu"])) == 0
    assert not (tmp_path / "library").exists()
    out = capsys.readouterr().out
    assert "embedded: 6.3 million parameters, int4 GPTQ, 7 MB, complete" in out
    assert "get it: python3 launch.py download openbmb/MiniCPM-SALA" in out


def test_the_lists_in_words():
    machine = Machine(device="cuda", name="A card", total_bytes=8_585_740_288, free_bytes=8 * 10**9, note="")
    small = Fit(weights_bytes=6_600_000_000, kv="int8", chunk_tokens=1024, max_tokens=84_000, needed_bytes=8 * 10**9)
    none = Fit(weights_bytes=18_954_407_936, kv="int8", chunk_tokens=1024, max_tokens=0, needed_bytes=20 * 10**9)
    cut = LocalModel(
        name="org/cut", source="cache", folder=Path("cache"), status="incomplete", problem="continue with: this",
        num_parameters=0, format="", num_bytes=4_000_000_000, tokenizer="", fit=None,
    )  # fmt: skip
    published = AvailableModel(
        name="org/model", num_parameters=9_477_203_968, num_bytes=18_954_407_936, license="Apache-2.0",
        command="get org/model", is_here=False, fit=none, fit_int4=small,
    )  # fmt: skip
    text = "\n".join(models_lines(machine, [cut], [published]))
    assert "This machine: A card, 8.6 GB of memory, 8.0 GB free" in text
    assert "  org/cut: 4.0 GB, incomplete\n    continue with: this" in text
    assert "org/model: 9.48 billion parameters, bf16, 19.0 GB, license Apache-2.0\n    get it: get org/model" in text
    assert "in bf16: does not fit: even a short text needs 20.0 GB (19.0 GB of weights in memory)" in text
    assert f"after python3 launch.py quantize org/model DIR: {fit_text(small)}" in text
    assert fit_text(small).startswith("texts of up to 84,000 tokens with int8 keys and values, in 8.0 GB")
    assert "On a CPU" not in text
    on_cpu = "\n".join(models_lines(replace(machine, device="cpu", name="CPU"), [], [published]))
    assert f"after python3 launch.py quantize org/model DIR: {fit_text(small)}\n    {CPU_SPEED}" in on_cpu


def test_the_events_in_words():
    planned = Planned(
        name="org/model", commit="c", license="mit", folder=Path("there"), num_files=9, bytes_total=19 * 10**9,
        bytes_here=4 * 10**9, bytes_free=50 * 10**9,
    )  # fmt: skip
    assert planned_text(planned) == (
        "org/model: 9 files, 19.0 GB, license mit, into there\n"
        "4.0 GB is here, 15.0 GB to fetch, 50.0 GB free on the disk"
    )
    progress = Progress(file="a", bytes_done=10**9, bytes_total=4 * 10**9, bytes_per_s=5e7)
    assert progress_text(progress) == "1.0 GB of 4.0 GB (25%), 50 MB/s, 1 min left  a"
    assert event_object(progress)["seconds_left"] == 60
    done = Downloaded(
        name="n", revision="main", commit="c", folder=Path("f"), bytes_total=4 * 10**9, bytes_fetched=10**9,
        seconds=20.0, model="org/model",
    )  # fmt: skip
    assert downloaded_text(done) == (
        "Complete: 4.0 GB, every checksum is right (1.0 GB fetched in 20 s)\n"
        "Start with it: python3 launch.py --model org/model"
    )


@pytest.mark.parametrize("line", [[], ["org/a", "--revision", " "], ["org/a", "--token", ""], ["org/a", "b"]])
def test_bad_usage_prints_one_line_and_exits_with_2(capsys, line):
    with pytest.raises(SystemExit) as stopped:
        parse(["download", *line])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

"""`launch.py eval`: output, exit codes, wrong usage, and interruption."""

import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app import cli
from app.grammar.parser import parse

_PROGRAM = (
    "import sys; from app.grammar.parser import parse; from app.cli import run; sys.exit(run(parse(sys.argv[1:])))"
)
_FAST = ("--lengths", "1K", "--samples", "2", "--max-tokens", "4", "--device", "cpu")


def run(*line):
    return cli.run(parse(["eval", *map(str, line)]))


def test_it_prints_each_sample_then_the_table_and_its_file(random_model, tmp_path, capsys):
    assert run("quote", "--model", random_model, *_FAST, "--out", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("quote 1K #0, score 0.00, whole 0.00")
    assert lines[1].endswith("0 left")
    assert any(line.split()[:4] == ["quote", "1K", "score", "0.000"] for line in lines)
    assert lines[-1] == f"Written: {tmp_path / 'quote.csv'}, {tmp_path / 'quote.png'}"
    assert len((tmp_path / "quote.jsonl").read_text().splitlines()) == 2


def test_results_go_to_a_folder_named_after_the_model(random_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("nolima", "--model", random_model, *_FAST) == 0
    assert [file.name for file in (tmp_path / "eval-results").glob("*random/nolima.csv")] == ["nolima.csv"]
    assert "one_hop" in capsys.readouterr().out


def test_options_are_applied_to_the_samples(random_model, tmp_path, capsys):
    text = tmp_path / "text.txt"
    words = ["harbour", "lantern", "window", "kitchen", "garden", "ladder"]
    text.write_text(" ".join(f"The {a} of the {b} was old." for a in words for b in words), encoding="utf-8")
    line = ("ruler", "--tasks", "niah_single_2,vt", "--shared", "2", "--seed", "7", "--text", text)
    assert run(*line, "--model", random_model, *_FAST, "--out", tmp_path) == 0
    settings = json.loads((tmp_path / "ruler.settings.json").read_text())
    assert (settings["seed"], settings["shared"], settings["max_tokens"], settings["text"]) == (7, 2, 4, "text.txt")
    samples = [json.loads(line) for line in (tmp_path / "ruler.jsonl").read_text().splitlines()]
    assert [sample["task"] for sample in samples] == ["niah_single_2"] * 2 + ["vt"] * 2
    capsys.readouterr()


def test_losses_by_position_are_printed(random_model, tmp_path, capsys):
    assert run("ppl", "--model", random_model, "--lengths", "1K", "--samples", "1", "--out", tmp_path) == 0
    assert "tokens 512-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (("quote", "--model", "./nothing here"), "there is no model"),
        (("quote", "--text", "gone.txt"), "gone.txt cannot be read"),
        (("ruler", "--tasks", "niah"), "ruler has no task 'niah'"),
        (("quote", "--endpoint", "ftp://x", "--model", "m"), "is not the address of a server"),
        (("quote", "--endpoint", "http://127.0.0.1:9", "--model", "gone/model"), "gone/model"),
    ],
)
def test_errors_are_one_line_and_code_1(tmp_path, monkeypatch, capsys, line, word):
    monkeypatch.chdir(tmp_path)
    assert run(*line) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err


def test_other_settings_are_an_error_unless_restarted(random_model, tmp_path, capsys):
    line = ("quote", "--model", random_model, *_FAST, "--out", tmp_path)
    assert run(*line) == 0
    assert run(*line, "--seed", "1") == 1
    assert "seed was 0, is 1" in capsys.readouterr().err
    assert run(*line, "--seed", "1", "--restart") == 0


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ([], "SUITE"),
        (["glue"], "glue"),
        (["quote", "--lengths", "4X"], "'4X' is not a length"),
        (["quote", "--lengths", "4M"], "from 1K to 2M"),
        (["quote", "--samples", "0"], "--samples"),
        (["quote", "--seed", "-1"], "--seed"),
        (["quote", "--tasks", ","], "--tasks"),
        (["quote", "--timeout", "0"], "--timeout"),
        (["quote", "--endpoint", "http://x"], "--endpoint needs --model"),
        (["quote", "--tokenizer", "x"], "goes with --endpoint"),
        (["ppl", "--endpoint", "http://x", "--model", "m"], "does not give"),
        (["ppl", "--tasks", "x"], "no tasks"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(capsys, line, word):
    with pytest.raises(SystemExit) as stopped:
        parse(["eval", *line])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert word in err


def test_the_help_names_the_suites(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["eval", "--help"])
    assert stopped.value.code == 0
    assert "ruler, mrcr, nolima, quote, absent, ppl" in " ".join(capsys.readouterr().out.split())


def test_lengths_may_have_units():
    assert parse(["eval", "quote", "--lengths", "1m,4K,4096,5000"]).eval.lengths == (4096, 5000, 1 << 20)


def test_a_peer_gets_the_key_from_the_environment(tmp_path, monkeypatch, capsys):
    keys, models = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            keys.append(self.headers["Authorization"])
            models.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"])
            data = json.dumps({"choices": [{"message": {"content": "The text does not say."}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PEER_KEY", "abc")
    line = ("absent", "--endpoint", f"http://127.0.0.1:{server.server_port}/v1", "--model", "org/peer")
    more = ("--tokenizer", "embedded", "--api-key-variable", "PEER_KEY", "--out", tmp_path)
    try:
        assert run(*line, *more, "--lengths", "2K", "--samples", "2") == 0
    finally:
        server.shutdown()
        server.server_close()
    assert keys == ["Bearer abc"] * 4
    assert models == ["org/peer"] * 4
    table = capsys.readouterr().out
    assert [line.split()[3] for line in table.splitlines() if line.startswith(("absent  ", "present  "))][:2] == [
        "0.000",
        "1.000",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_an_interrupted_run_keeps_its_samples_and_the_same_command_continues(
    random_model, tmp_path, environment, number
):
    line = [sys.executable, "-c", _PROGRAM, "eval", "mrcr", "--model", str(random_model), "--device", "cpu"]
    line += ["--lengths", "2K", "--samples", "6", "--max-tokens", "30", "--out", str(tmp_path)]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "mrcr_2 2K #0" in process.stdout.readline()
    process.send_signal(number)
    said, err = process.communicate(timeout=120)
    kept = (tmp_path / "mrcr.jsonl").read_bytes()
    if number == signal.SIGINT:
        assert process.returncode == 128 + signal.SIGINT, err
        assert "Run the same command again" in said
        assert (tmp_path / "mrcr.csv").is_file()
    (tmp_path / "mrcr.jsonl").write_bytes(kept + b'{"half a li')
    again = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "#0," not in again.stdout.splitlines()[0]
    whole = (tmp_path / "mrcr.jsonl").read_bytes()
    assert whole.startswith(kept)
    assert len([json.loads(line) for line in whole.splitlines()]) == 18

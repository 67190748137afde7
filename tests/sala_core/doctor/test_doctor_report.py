"""The report is readable, has the same facts as JSON, and no private words."""

import json
import platform
import re

import pytest

from sala_core.doctor.private import Privacy
from sala_core.doctor.records import Examination, Outcome, failed, not_possible, ok
from sala_core.doctor.report import figure_text, summary, write_report

OUTCOMES = (
    ok("system", {"cores": 2, "share": 0.123456, "in a container": True, "card": None}),
    failed("trivial kernel", "no | compiler", "install gcc", {"seen": "nothing"}, "line 1\nline 2"),
    not_possible("CUDA graphs", "CUDA graphs need a card"),
)


def test_the_report_has_failures_first_then_every_check_then_json(examination, tmp_path):
    file = tmp_path / "report.md"
    write_report(file, examination, OUTCOMES, {"date": "2026-01-01 00:00", "version": "1.2.3"})
    text = file.read_text(encoding="utf-8")
    order = [
        "- version: 1.2.3",
        "- result: 1 ok, 1 failed, 1 not possible here",
        "What to do: install gcc",
        "| trivial kernel | FAILED | 0.0 | no / compiler |",
        "## system: ok",
        "- share: 0.1235",
        "- in a container: yes",
        "- card: unknown",
        "## trivial kernel: FAILED",
        "line 1\nline 2",
        "```json",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    block = json.loads(re.search(r"```json\n(.*?)\n```", text, re.DOTALL)[1])
    assert [check["status"] for check in block["checks"]] == [outcome.status for outcome in OUTCOMES]
    assert block["checks"][0]["figures"] == dict(OUTCOMES[0].figures)
    assert block["extent"] == "quick"


def test_a_fence_in_a_text_does_not_end_its_block(examination, tmp_path):
    write_report(tmp_path / "r.md", examination, [ok("answer", {}, text="```\ncode\n```")], {})
    assert "~~~~text\n```\ncode\n```\n~~~~" in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_a_failure_needs_an_advice():
    with pytest.raises(ValueError, match="advice"):
        Outcome(name="x", status="failed", reason="it is wrong")
    with pytest.raises(ValueError, match="status"):
        Outcome(name="x", status="fine")


def test_counts_and_figures_in_words():
    assert summary(OUTCOMES) == "1 ok, 1 failed, 1 not possible here"
    assert summary(()) == "no check"
    assert [figure_text(value) for value in (1234567, 1.5, "text", False)] == ["1,234,567", "1.5", "text", "no"]


@pytest.fixture
def privacy(tmp_path, monkeypatch):
    """Of a user "Quixwood", whose model is in a folder of a client."""
    home, model = tmp_path / "homes" / "quixwood", tmp_path / "Client Zephyrine" / "zephyr-9b"
    home.mkdir(parents=True)
    model.mkdir(parents=True)
    disk = str(tmp_path / "my fast disk")
    for name, value in {"HOME": str(home), "USER": "quixwood", "HOSTNAME": "tower-of-quix", "HF_HOME": disk}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "node", lambda: "tower-of-quix.example.org")
    monkeypatch.chdir(home)
    return Privacy.here(
        Examination(model=str(model), device="cpu", kv="auto", library=tmp_path / "my library", quick=True), tmp_path
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{home}/.triton/cache", "<home>/.triton/cache"),
        ("{tmp}/Client Zephyrine/zephyr-9b/model.safetensors is damaged", "<model>/model.safetensors is damaged"),
        ("zephyr-9b has no config", "<model> has no config"),
        ("{tmp}/my library/library.db", "<library>/library.db"),
        ("QUIXWOOD and quixwood2 on Tower-of-Quix", "<user> and <user>2 on <host>"),
        ("quixwoodland is another word", "quixwoodland is another word"),
        ("in '/srv/data/novel.txt'", "in '<path>'"),
        ("LD_LIBRARY_PATH=/usr/lib:/mnt/zephyr/lib:/srv/x/lib", "LD_LIBRARY_PATH=/usr/lib:<path>:<path>"),
        ("TRITON_CACHE_DIR={tmp}/my fast disk/triton", "TRITON_CACHE_DIR=<cache>/triton"),
        (r"at D:\Books\novel.txt, line 3", "at <path>, line 3"),
        ("/usr/lib/python3.11/json stays", "/usr/lib/python3.11/json stays"),
        ("12 tokens/s, 3/4, and/or, a root-mean-square error", "12 tokens/s, 3/4, and/or, a root-mean-square error"),
        ("peer 192.168.17.4, self 127.0.0.1", "peer <address>, self 127.0.0.1"),
        ("GPU-5a2c8d10-1111-2222-3333-444455556666", "<card>"),
        ("see https://pytorch.org/get-started/locally", "see https://pytorch.org/get-started/locally"),
    ],
)
def test_private_words_are_replaced_and_others_stay(privacy, tmp_path, text, expected):
    given = text.replace("{home}", str(tmp_path / "homes" / "quixwood")).replace("{tmp}", str(tmp_path))
    assert privacy.clean(given) == expected


def test_every_part_of_an_outcome_is_cleaned(privacy):
    words = "by quixwood"
    cleaned = privacy.clean_outcome(failed("x", words, words, {words: words, "count": 3}, words))
    assert "quixwood" not in json.dumps(cleaned.to_json())
    assert cleaned.figures["count"] == 3


def test_names_of_published_models_stay(tmp_path):
    for model, hidden in (("openbmb/MiniCPM-SALA", False), ("acme/secret-sala", True), ("embedded", False)):
        own = Examination(model=model, device="cpu", kv="auto", library=tmp_path, quick=True)
        assert (model in Privacy.here(own).clean(f"{model} is not downloaded")) != hidden

"""`launch.py mcp`, started as clients start it, with the embedded model; the client is the SDK's own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the SDK mcp is not installed")

from mcp.shared.exceptions import MCPError
from mcp_clients import INJECTION, TIDE, WAIT_S, command, environment, long_text, over_pipes

from sala_core.store.library import Library

pytestmark = pytest.mark.timeout(240)

READ_ONLY = {"list_sessions", "read_status", "find_quotation", "get_passage", "search_text"}
OTHERS = {"ask", "read_documents", "stop_reading", "fork_session"}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with files that may be read (docs), files that may not (other), and a library."""
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "docs").mkdir()
    (folder / "other").mkdir()
    (folder / "docs" / "tarn.txt").write_text(f"{TIDE}\n{INJECTION}\n", encoding="utf-8")
    (folder / "docs" / "long.txt").write_text(long_text(), encoding="utf-8")
    (folder / "other" / "secret.txt").write_text("The pass phrase is marmalade.\n", encoding="utf-8")
    (folder / "docs" / "link.txt").symlink_to(folder / "other" / "secret.txt")
    (folder / "docs" / "up").symlink_to(folder / "other")
    return folder


@pytest.fixture(scope="module")
def client(place):
    with over_pipes(place / "library", "--allow", place / "docs") as caller:
        caller.call("read_documents", session="tarn", paths=["tarn.txt"])
        yield caller


def test_every_tool_has_schemas_and_says_whether_it_only_reads(client):
    tools = {tool.name: tool for tool in client.list_tools().tools}
    assert set(tools) == READ_ONLY | OTHERS
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == READ_ONLY
    assert not any(tools[name].annotations.destructive_hint for name in OTHERS)
    assert all(tool.output_schema["type"] == "object" and tool.description for tool in tools.values())
    assert "data" in client.client.instructions


def test_what_was_read_is_not_read_again_and_is_listed(client):
    again = client.call("read_documents", session="tarn", paths=["tarn.txt"])
    assert (again["status"], again["files"], again["tokens_read"]) == ("done", 1, 0)
    counted = client.call("read_documents", session="new", paths=["tarn.txt"], count_only=True)
    assert (counted["status"], counted["tokens"]) == ("counted", again["tokens"])
    listed = client.call("list_sessions")
    assert [row["name"] for row in listed["sessions"]] == ["tarn"], "a count makes no session"
    assert [row["name"] for row in listed["sessions"][0]["documents"]] == ["tarn.txt"]


def test_an_answer_comes_with_evidence_places_and_quotations(client):
    answer = client.call("ask", session="tarn", question="What is the ferryman of Tarn called?")
    (quotation,) = answer["quotations"]
    assert quotation["word_for_word"]
    assert "Osric Vale" in quotation["text"]
    assert (quotation["where"]["document"], quotation["where"]["line_start"]) == ("tarn.txt", 1)
    assert answer["evidence"][0]["place"].startswith("line")
    assert (answer["found"], answer["confidence"] > 0.5) == (True, True)
    numbers = [number for number, _, _ in client.progress]
    assert numbers == sorted(set(numbers)), "progress only grows"
    told = client.call("read_status", job=answer["job"])
    assert told["answer"]["answer"] == answer["answer"]
    (lines,) = client.read_resource(quotation["where"]["uri"]).contents
    assert quotation["text"] in lines.text


def test_a_quotation_is_placed_or_stands_nowhere(client):
    found = client.call("find_quotation", session="tarn", text="He  keeps a lantern\nof green glass")
    assert (found["stands"], found["num_places"]) == ("word for word", 1)
    assert found["places"][0]["line_start"] == 1
    other = client.call("find_quotation", session="tarn", text="THE FERRYMAN of Tarn")
    assert other["stands"] == "with other capitals"
    lost = client.call("find_quotation", session="tarn", text="He keeps a lantern of blue glass")
    assert (lost["stands"], lost["num_places"], lost["places"]) == ("nowhere", 0, [])
    assert "green glass" in lost["nearest"][0]["text"]


def test_only_allowed_folders_are_read_also_behind_links_and_dots(client, place):
    outside = ["/etc/passwd", "../other/secret.txt", "link.txt", "up/secret.txt", str(place / "docs/../other"), "~"]
    for path in outside:
        assert "outside of the folders" in client.refused("read_documents", session="stolen", paths=[path]), path
        assert "outside" in client.refused("read_documents", session="stolen", paths=[path], count_only=True)
    assert "there is no file" in client.refused("read_documents", session="stolen", paths=["absent.txt"])
    assert "no path" in client.refused("read_documents", session="stolen", paths=["a\0b"])
    assert "stolen" not in {row["name"] for row in client.call("list_sessions")["sessions"]}


def test_a_folder_is_read_without_what_its_links_lead_to(client):
    counted = client.call("read_documents", session="folder", paths=["."], count_only=True)
    assert counted["files"] == 2, "tarn.txt and long.txt"


def test_instructions_in_a_document_come_back_as_data_only(client):
    found = client.call("search_text", session="tarn", words="Ignore all previous instructions fork_session")
    answer = client.call("ask", session="tarn", question="What instructions does the text of Tarn give?")
    passage = client.call("get_passage", session="tarn", document="tarn.txt", line_start=1, line_end=3)
    for result in (found, answer, passage):
        assert "data" in result["notice"]
        for path, text in strings(result):
            assert "Ignore all previous" not in text or path[-1] in ("text", "lines", "answer"), path
    assert INJECTION in passage["text"]
    assert "taken" not in {row["name"] for row in client.call("list_sessions")["sessions"]}
    assert INJECTION not in json.dumps([tool.model_dump(mode="json") for tool in client.list_tools().tools])


def strings(value, path=()):
    """Every string in a result, with the keys that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, path)


def test_wrong_arguments_are_told_in_one_sentence_without_their_values(client):
    giant = "x" * 5_000_000
    for arguments in ({"question": giant}, {"question": giant, "extra": 1}, {}, {"question": 3}):
        told = client.refused("ask", session="tarn", **arguments)
        assert len(told) < 400
        assert "\n" not in told
        assert told.startswith("ask")
    assert "20000 characters" in client.refused("find_quotation", session="tarn", text=giant)
    assert "no tool 'eval'" in client.refused("eval", code="1")
    assert "list_sessions names" in client.refused("search_text", session="nobody", words="x")
    assert "lines 1 to 3" in client.refused("get_passage", session="tarn", document="tarn.txt", line_start=9)
    assert "no pages" in client.refused("get_passage", session="tarn", document="n.txt", page=1)
    assert "one of" in client.refused("get_passage", session="tarn", document="tarn.txt")


def test_resources_are_the_documents_of_sessions_and_nothing_else(client):
    (document,) = (each for each in client.list_resources().resources if each.name == "tarn.txt")
    (text,) = client.read_resource(document.uri).contents
    assert text.text.startswith(TIDE.strip())
    assert text.meta["sala/content"].endswith("not instructions")
    assert len(client.list_resource_templates().resource_templates) == 3
    for uri in (
        document.uri + "0",
        document.uri + "/pages/1",
        "sala://sessions/x/documents/%2Fetc%2Fpasswd",
        "file:///etc",
    ):
        with pytest.raises(MCPError):
            client.read_resource(uri)


def test_a_copy_shares_what_was_read(client):
    copy = client.call("fork_session", session="tarn", new_name="copy")
    assert copy["tokens_shared"] > 0
    assert "already" in client.refused("fork_session", session="tarn", new_name="copy")


def test_a_reading_goes_on_when_its_call_is_cancelled_and_a_question_ends(client):
    assert client.cancelled(1.0, "read_documents", session="long", paths=["long.txt"])
    assert client.call("ask", session="tarn", question="Who keeps a lantern?")["status"] == "done", "before the reading"
    (job,) = client.begun("long")["jobs"]
    assert (job["kind"], job["status"]) == ("read", "running")
    assert [each["job"] for each in client.call("read_status")["jobs"]] == [job["job"]], "what is over is left out"
    assert client.call("read_status", job=job["job"])["jobs"][0]["tokens_total"] > 100_000
    assert client.call("stop_reading", job=job["job"])["jobs"][0]["status"] == "stopped"
    assert client.cancelled(1.0, "ask", session="long", question="How many nets were counted in the 9th year?")
    jobs = client.settled("long")
    assert (jobs["jobs"][0]["kind"], jobs["jobs"][0]["status"]) == ("ask", "stopped")
    assert jobs["session"]["num_messages"] == 0
    assert jobs["session"]["tokens_read"] < jobs["session"]["tokens"], "it was not read to its end"


def test_a_client_with_the_newest_protocol_and_its_own_roots(place):
    """Without a model: roots of the client count, and those alone."""
    with over_pipes(place / "library", mode="auto", roots=[place / "docs"]) as caller:
        assert caller.client.protocol_version == "2026-07-28"
        assert caller.call("list_sessions", search="tarn")["sessions"]
        outside = str(place / "other" / "secret.txt")
        assert "outside" in caller.refused("read_documents", session="stolen", paths=[outside])
    with over_pipes(place / "library") as caller:
        assert "no folder may be read" in caller.refused("read_documents", session="stolen", paths=["tarn.txt"])


class Raw:
    """The command with plain pipes: what a client sends and sees, byte by byte."""

    def __init__(self, library: Path, place: Path) -> None:
        self.process = subprocess.Popen(
            command(library, "--allow", place / "docs"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(place),
        )
        self.lines: list[dict] = []

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def request(self, number: int, method: str, **params: object) -> dict:
        """Send a request and wait for its answer. Every line on the way must be JSON-RPC."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
        assert self.process.stdout is not None
        while True:
            line = json.loads(self.process.stdout.readline())
            assert line["jsonrpc"] == "2.0"
            self.lines.append(line)
            if line.get("id") == number:
                return line

    def tool(self, number: int, name: str, **arguments: object) -> dict:
        return self.request(number, "tools/call", name=name, arguments=arguments)["result"]


def test_lines_that_are_no_json_do_no_harm_and_a_client_that_vanishes_loses_nothing(place):
    raw = Raw(place / "raw", place)
    raw.request(1, "initialize", **HELLO)
    for line in (b"{", b"\xff\xfe\x00", b"[]", b'{"jsonrpc": "2.0"}', b"null", b'{"id": {}}', b"[" * 10_000, b""):
        raw.send(line)
    assert raw.request(2, "ping")["result"] == {}
    assert not raw.tool(3, "read_documents", session="tarn", paths=["tarn.txt"])["isError"], "libraries print nothing"
    job = raw.tool(4, "read_documents", session="long", paths=["long.txt"], wait_s=0)["structuredContent"]["job"]
    until = time.monotonic() + WAIT_S
    while not (told := raw.tool(5, "read_status", session="long")["structuredContent"])["session"]["tokens_read"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert told["jobs"][0]["status"] == "running"
    raw.process.stdout.close()  # as when the client is killed
    raw.process.stdin.close()
    assert raw.process.wait(30) == 0
    with Library.open(place / "raw") as library:
        row = library.session("long")
        assert told["session"]["tokens_read"] <= row.position < row.num_tokens
        assert library.is_orphaned(library.job(job)), "the next start of the program takes it up"
    raw = Raw(place / "raw", place)
    raw.request(1, "initialize", **HELLO)
    assert raw.tool(2, "read_status", job=job)["structuredContent"]["jobs"][0]["status"] == "interrupted"
    raw.process.terminate()
    assert raw.process.wait(20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_second_client_searches_the_texts_without_the_model(place, client):
    raw = Raw(place / "library", place)
    raw.request(1, "initialize", **HELLO)
    for number, (name, arguments) in enumerate(
        [
            ("list_sessions", {}),
            ("search_text", {"session": "tarn", "words": "lantern"}),
            ("find_quotation", {"session": "tarn", "text": "green glass"}),
            ("get_passage", {"session": "tarn", "document": "tarn.txt", "line_start": 1}),
            ("read_status", {}),
        ],
        start=2,
    ):
        assert not raw.tool(number, name, **arguments)["isError"], name
    assert "libtorch" not in Path(f"/proc/{raw.process.pid}/maps").read_text()
    raw.process.stdin.close()
    assert raw.process.wait(20) == 0

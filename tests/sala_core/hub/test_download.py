"""A download is whole or not there, continues after any stop, and refuses what cannot work, through the real client."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from local_hub import MODEL

from sala_core import Engine
from sala_core.errors import (
    CheckpointError,
    ConfigError,
    DamagedDownloadError,
    DownloadError,
    DownloadSpaceError,
    HubAccessError,
    HubConnectionError,
    HubNotFoundError,
    ModelError,
    TokenizerError,
)
from sala_core.hub import download as download_module
from sala_core.hub import transfer
from sala_core.hub.download import download
from sala_core.hub.records import Downloaded, Planned, Progress, Retrying, Waiting
from sala_core.hub.remote import remote_model
from sala_core.model.checkpoint import resolve_model
from sala_core.model.verify import published_checksum, verify_model

WEIGHTS = "model.safetensors"
NEEDED = {
    "config.json", "generation_config.json", "quantize_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "README.md", "LICENSE", WEIGHTS,
}  # fmt: skip
FETCHING = """
import sys
from pathlib import Path
from sala_core.hub.download import download
download(sys.argv[1], to=Path(sys.argv[2]), report=lambda event: print(event, flush=True))
"""


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(transfer, "_WAIT_S", 0.0)


def quiet(event):
    pass


def names_in(folder):
    return {file.name for file in folder.iterdir()} - {".cache"}


def embedded(root):
    return {file.name: file.read_bytes() for file in (root / "assets" / "embedded").iterdir()}


def run_in_process(hub, target, **more):
    environ = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", FETCHING, MODEL, str(target)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_model_comes_into_a_folder_with_what_the_program_needs_and_runs(hub, root, tmp_path):
    events = []
    done = download(MODEL, to=tmp_path / "model", report=events.append)
    assert names_in(tmp_path / "model") == NEEDED
    assert set(hub.fetched()) == NEEDED, "no pickle, no code, no folders"
    for name, content in embedded(root).items():
        assert (tmp_path / "model" / name).read_bytes() == content
    assert done.model == str(tmp_path / "model")
    (planned,) = [event for event in events if isinstance(event, Planned)]
    total = sum((tmp_path / "model" / name).stat().st_size for name in NEEDED)
    assert (planned.bytes_total, planned.num_files, planned.license) == (total, len(NEEDED), "apache-2.0")
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].bytes_done == progress[-1].bytes_total == total
    assert isinstance(events[-1], Downloaded)
    for name in NEEDED:
        assert published_checksum(tmp_path / "model" / name) is not None
    assert all(check.published and check.is_right for check in verify_model(tmp_path / "model"))
    engine = Engine.load(tmp_path / "model")
    assert len(engine.tokenizer.encode_content("Lena lives in Oslo.")) > 3


def test_a_model_in_the_cache_is_found_by_its_name_by_this_and_other_programs(hub, tmp_path):
    from huggingface_hub import snapshot_download

    done = download(MODEL, report=quiet)
    assert done.model == MODEL
    assert resolve_model(MODEL) == done.folder
    assert Path(snapshot_download(MODEL, local_files_only=True)) == done.folder
    assert Engine.load(MODEL).name == MODEL
    assert names_in(done.folder) == NEEDED
    assert names_in(tmp_path / "cache" / "models--org--tiny") == {"blobs", "refs", "snapshots"}


def test_a_revision_is_found_by_its_name_and_does_not_become_the_default(hub):
    done = download(MODEL, revision="v1", report=quiet)
    assert done.model == f"{MODEL}@v1"
    assert resolve_model(f"{MODEL}@v1") == done.folder
    with pytest.raises(ModelError, match=f"download {MODEL}"):
        resolve_model(MODEL)
    with pytest.raises(HubNotFoundError, match="no revision 'v2'"):
        download(MODEL, revision="v2", report=quiet)


def test_a_cut_connection_is_opened_again_where_it_stopped(hub, root, tmp_path):
    hub.cut_after = [3_000_000, 2_500_000]
    events = []
    download(MODEL, to=tmp_path / "model", report=events.append)
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == embedded(root)[WEIGHTS]
    assert len([event for event in events if isinstance(event, Retrying)]) == 2
    ranges = [request.range for request in hub.requests if request.path.startswith("/cdn/")]
    assert ranges == [None, "bytes=2097152-", "bytes=4194304-"], "whole megabytes are kept"


def test_a_connection_that_stays_cut_is_given_up_and_the_next_run_continues(hub, root, tmp_path):
    hub.cut_after = [2_500_000] + [0] * 10
    with pytest.raises(HubConnectionError, match=r"cannot be reached .*continues where it stopped"):
        download(MODEL, to=tmp_path / "model", report=quiet)
    assert not (tmp_path / "model" / "config.json").exists()
    with pytest.raises(ModelError, match=f"only a part of a model; continue with: .*download {MODEL} --to"):
        resolve_model(tmp_path / "model")
    hub.cut_after, hub.requests = [], []
    done = download(MODEL, to=tmp_path / "model", report=quiet)
    assert [r.range for r in hub.requests if r.path.startswith("/cdn/")] == ["bytes=2097152-"]
    assert hub.fetched() == [WEIGHTS], "the settings are not fetched again"
    assert done.bytes_fetched == len(embedded(root)[WEIGHTS]) - 2097152
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == embedded(root)[WEIGHTS]


def test_a_killed_download_is_no_model_and_the_next_run_fetches_only_the_rest(hub, root, tmp_path):
    whole = embedded(root)[WEIGHTS]
    part = tmp_path / "model" / ".download" / f"{WEIGHTS}.part"
    hub.gate = threading.Event()
    process = run_in_process(hub, tmp_path / "model")
    until(lambda: part.exists() and part.stat().st_size >= 2 << 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = part.stat().st_size
    assert 0 < kept < len(whole)
    assert names_in(tmp_path / "model") == {".download", ".download.lock"}
    hub.gate.set()
    hub.gate, hub.requests = None, []
    done = download(MODEL, to=tmp_path / "model", report=quiet)
    assert [r.range for r in hub.requests if r.path.startswith("/cdn/")] == [f"bytes={kept}-"]
    assert done.bytes_fetched == len(whole) - kept
    assert names_in(tmp_path / "model") == NEEDED
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == whole


def test_a_server_that_ignores_ranges_sends_the_file_again(hub, root, tmp_path):
    hub.cut_after, hub.ignore_ranges = [3_000_000], True
    done = download(MODEL, to=tmp_path / "model", report=quiet)
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == embedded(root)[WEIGHTS]
    assert done.bytes_fetched == done.bytes_total, "what was fetched twice counts once"


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_wrong_byte_is_found_the_file_deleted_and_the_next_run_fetches_it(hub, root, tmp_path, name):
    hub.damaged = [name]
    with pytest.raises(DamagedDownloadError, match=f"{name} arrived damaged.*run the command again"):
        download(MODEL, to=tmp_path / "model", report=quiet)
    assert not list(tmp_path.rglob(f"{name}*"))
    assert not (tmp_path / "model" / "config.json").exists()
    download(MODEL, to=tmp_path / "model", report=quiet)
    assert (tmp_path / "model" / name).read_bytes() == embedded(root)[name]


def test_a_server_that_sends_too_much_is_stopped(hub, tmp_path):
    before = remote_model(MODEL, None, None)
    (file,) = [file for file in before.files if file.name == "README.md"]
    hub.models[MODEL]["README.md"] += b"more"
    model = replace(before, commit=hub.commit(MODEL))
    with pytest.raises(DamagedDownloadError, match="more than"):
        transfer.fetch(model, file, tmp_path / "part", headers={}, on_bytes=quiet, on_retry=quiet)
    assert not (tmp_path / "part").exists()


def test_a_disk_without_room_is_refused_before_the_weights(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    with pytest.raises(DownloadSpaceError, match=r"takes 0\.01 GB.* do not fit: 0\.0\d GB is free .*--to DIR"):
        download(MODEL, to=tmp_path / "model", report=quiet)
    assert WEIGHTS not in hub.fetched()


def test_the_room_for_what_is_here_already_is_not_needed_again(hub, tmp_path, monkeypatch):
    hub.cut_after = [5_000_000] + [0] * 10
    with pytest.raises(HubConnectionError):
        download(MODEL, to=tmp_path / "model", report=quiet)
    hub.cut_after = []
    usage = shutil.disk_usage(tmp_path)
    free = download_module._RESERVE_BYTES + 3_500_000  # less than the file, more than the rest of it
    with monkeypatch.context() as patched:
        patched.setattr(download_module.shutil, "disk_usage", lambda path: usage._replace(free=free))
        download(MODEL, to=tmp_path / "model", report=quiet)


def test_a_disk_that_fills_up_on_the_way_keeps_what_it_has(hub, root, tmp_path, monkeypatch):
    write = transfer._write

    def write_until_full(out, data, part, file):
        if file.name == WEIGHTS and part.stat().st_size == 3 << 20:
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise transfer.write_error(error, part, file.num_bytes) from error
        write(out, data, part, file)

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "_write", write_until_full)
        with pytest.raises(DownloadSpaceError, match=r"is full: .* stopped at 3,145,728 of .*what was fetched is kept"):
            download(MODEL, to=tmp_path / "model", report=quiet)
    done = download(MODEL, to=tmp_path / "model", report=quiet)
    assert done.bytes_fetched == len(embedded(root)[WEIGHTS]) - (3 << 20)


def test_a_full_disk_is_told_from_other_errors(hub, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, a device that is always full")
    (tmp_path / "model" / ".download").mkdir(parents=True)
    (tmp_path / "model" / ".download" / f"{WEIGHTS}.part").symlink_to("/dev/full")
    with pytest.raises(DownloadSpaceError, match=r"the disk of .* is full.*make room and run the command again"):
        download(MODEL, to=tmp_path / "model", report=quiet)


def test_a_file_that_the_disk_cannot_hold_is_an_error_of_the_disk(hub, tmp_path):
    resource = pytest.importorskip("resource")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_500_000, 3_500_000))

    process = run_in_process(hub, tmp_path / "model", preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "DownloadSpaceError: the disk of" in err.splitlines()[-1]
    assert (tmp_path / "model" / ".download" / f"{WEIGHTS}.part").stat().st_size == 3_500_000


def test_an_unknown_model_is_told_from_a_known_one(hub):
    with pytest.raises(
        HubNotFoundError, match=r"no public model 'openbmb/MiniCPM-SAL'.*did you mean openbmb/MiniCPM-SALA"
    ):
        download("openbmb/MiniCPM-SAL", report=quiet)
    with pytest.raises(HubNotFoundError, match=r"known models: openbmb/MiniCPM-SALA.*HF_TOKEN"):
        download("someone/else", report=quiet)
    for name in ("tiny", "a/b/c", "org/..", "org/a b", ""):
        with pytest.raises(ModelError, match="is not the name of a model"):
            download(name, report=quiet)
    assert hub.fetched() == []


def test_a_gated_or_private_model_says_how_to_log_in_and_opens_with_a_token(hub, tmp_path):
    hub.gated, hub.token = {MODEL}, "hf_right"
    with pytest.raises(HubAccessError, match=f"accept its conditions: open {hub.endpoint}/{MODEL}.*HF_TOKEN"):
        download(MODEL, to=tmp_path / "model", report=quiet)
    with pytest.raises(HubAccessError, match="accept its conditions"):
        download(MODEL, to=tmp_path / "model", token="hf_wrong", report=quiet)
    download(MODEL, to=tmp_path / "model", token="hf_right", report=quiet)
    sent = {request.authorization for request in hub.requests[-4:] if not request.path.startswith("/cdn/")}
    assert sent == {"Bearer hf_right"}
    storage = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert [request.authorization for request in storage] == [None], "the token goes to the hub alone"
    hub.gated = set()
    with pytest.raises(HubNotFoundError, match="If it is private, create a token"):
        download(MODEL, to=tmp_path / "other", report=quiet)


def test_no_network_and_a_wrong_address_are_told(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubConnectionError, match=r"127\.0\.0\.1:9 cannot be reached .*check the network"):
        download(MODEL, report=quiet)
    monkeypatch.setattr(constants, "ENDPOINT", "nonsense")
    with pytest.raises(HubConnectionError, match="'nonsense', which is no address"):
        download(MODEL, report=quiet)
    monkeypatch.setattr(constants, "ENDPOINT", f"{hub.endpoint}/elsewhere")
    with pytest.raises(HubConnectionError, match="does not answer as a hub does"):
        download(MODEL, report=quiet)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubConnectionError, match="HF_HUB_OFFLINE forbids"):
        download(MODEL, report=quiet)


def changed(hub, **values):
    config = json.loads(hub.models[MODEL]["config.json"]) | values
    hub.models[MODEL]["config.json"] = json.dumps(config).encode()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda hub: changed(hub, model_type="llama"), ConfigError, "model_type is 'llama'"),
        (lambda hub: changed(hub, quantization_config={"quant_method": "awq"}), CheckpointError, "'awq'"),
        (lambda hub: hub.models[MODEL].pop("config.json"), ConfigError, "no config.json"),
        (lambda hub: hub.models[MODEL].pop("tokenizer.json"), TokenizerError, "no tokenizer.json"),
        (lambda hub: hub.models[MODEL].pop(WEIGHTS), CheckpointError, r"no weights in safetensors; it has \.bin"),
        (lambda hub: hub.models[MODEL].update({"model.gguf": b"GGUF"}) or hub.models[MODEL].pop(WEIGHTS),
         CheckpointError, r"\.bin, \.gguf"),
    ],
    ids=["another architecture", "another quantization", "no config", "no tokenizer", "pickles", "GGUF"],
)  # fmt: skip
def test_a_model_that_the_program_does_not_read_is_refused_before_its_weights(hub, tmp_path, change, error, words):
    change(hub)
    with pytest.raises(error, match=words):
        download(MODEL, to=tmp_path / "model", report=quiet)
    assert WEIGHTS not in hub.fetched()
    assert not (tmp_path / "model").exists(), "nothing is left behind"


def test_names_that_lead_out_of_the_target_are_not_fetched(hub, tmp_path):
    hub.models[MODEL] |= {"../evil.json": b"{}", "C:evil.json": b"{}", "a\\evil.json": b"{}", ".hidden.json": b"{}"}
    download(MODEL, to=tmp_path / "model", report=quiet)
    assert set(hub.fetched()) == NEEDED
    assert not list(tmp_path.rglob("*evil*"))


def test_shards_come_as_their_index_names_them(hub, root, tmp_path):
    whole = hub.models[MODEL].pop(WEIGHTS)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {"model-00001-of-00002.safetensors": whole, "model-00002-of-00002.safetensors": whole[:5000]}
    hub.models[MODEL] |= files | {f"{WEIGHTS}.index.json": json.dumps(index).encode(), "other.safetensors": b"x"}
    download(MODEL, to=tmp_path / "model", report=quiet)
    assert names_in(tmp_path / "model") == (NEEDED - {WEIGHTS}) | {*files, f"{WEIGHTS}.index.json"}
    hub.models[MODEL].pop("model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00002"):
        download(MODEL, to=tmp_path / "other", report=quiet)


def test_a_complete_model_is_checked_and_not_fetched_and_damage_is_repaired_in_the_cache(hub, tmp_path):
    for target in (tmp_path / "model", None):
        folder = download(MODEL, to=target, report=quiet).folder
        hub.requests = []
        assert download(MODEL, to=target, report=quiet).bytes_fetched == 0
        assert hub.fetched() == []
        with (folder / WEIGHTS).open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"\0\0\0\0damage")
    done = download(MODEL, report=quiet)
    assert (hub.fetched(), done.bytes_fetched) == ([WEIGHTS], len(hub.models[MODEL][WEIGHTS]))
    assert (done.folder / WEIGHTS).read_bytes() == hub.models[MODEL][WEIGHTS]
    with pytest.raises(DownloadError, match=r"is there already and is not the file.*delete it"):
        download(MODEL, to=tmp_path / "model", report=quiet)


def test_files_of_the_user_are_never_overwritten(hub, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    with pytest.raises(DownloadError, match=r"is not empty \(todo.txt is there\)"):
        download(MODEL, to=tmp_path / "notes", report=quiet)
    with pytest.raises(DownloadError, match="is a file"):
        download(MODEL, to=tmp_path / "notes" / "todo.txt", report=quiet)
    assert hub.requests == []


def test_a_new_commit_on_the_hub_keeps_the_parts_that_did_not_change(hub, tmp_path):
    hub.cut_after = [4_000_000] + [0] * 10
    with pytest.raises(HubConnectionError):
        download(MODEL, to=tmp_path / "model", report=quiet)
    hub.cut_after, hub.requests = [], []
    hub.models[MODEL]["README.md"] += b"\nA new line.\n"
    download(MODEL, to=tmp_path / "model", report=quiet)
    assert hub.fetched() == ["README.md", WEIGHTS]
    assert [r.range for r in hub.requests if r.path.startswith("/cdn/")] == [f"bytes={3 << 20}-"]


def test_an_unfinished_download_of_another_model_is_not_mixed_with_this_one(hub, small_model, tmp_path):
    hub.cut_after = [0] * 10
    with pytest.raises(HubConnectionError):
        download(MODEL, to=tmp_path / "model", report=quiet)
    hub.add("org/other", small_model)
    with pytest.raises(DownloadError, match=f"unfinished download of {MODEL}"):
        download("org/other", to=tmp_path / "model", report=quiet)


def test_two_downloads_of_one_model_at_once_fetch_it_once(hub, tmp_path):
    hub.gate = threading.Event()
    first = run_in_process(hub, tmp_path / "model")
    part = tmp_path / "model" / ".download" / f"{WEIGHTS}.part"
    until(lambda: part.exists() and part.stat().st_size >= 2 << 20)
    events = []

    def report(event):
        events.append(event)
        if isinstance(event, Waiting):
            hub.gate.set()

    second = download(MODEL, to=tmp_path / "model", report=report)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert "Downloaded(" in out
    assert isinstance(events[0], Waiting)
    assert second.bytes_fetched == 0
    assert hub.fetched().count(WEIGHTS) == 1
    assert names_in(tmp_path / "model") - {".download.lock"} == NEEDED

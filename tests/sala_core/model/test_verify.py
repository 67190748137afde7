"""The full check of a model's files: what it knows of them, and what it says when they change."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from app.cli import run
from app.grammar.parser import parse
from sala_core.errors import CheckpointError
from sala_core.model import weight_digests
from sala_core.model.verify import published_checksum, verify_model
from sala_core.model.weight_digests import digest_weights, read_record


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test, and files that do not look new."""
    monkeypatch.setattr(weight_digests, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(weight_digests, "SETTLED_NS", -(10**15))


@pytest.fixture
def folder(tmp_path):
    """Two shards with an index."""
    folder = tmp_path / "model"
    folder.mkdir()
    names = [f"model-{n:05d}-of-00002.safetensors" for n in (1, 2)]
    for n, name in enumerate(names):
        save_file({f"weight.{n}": torch.full((100,), float(n))}, folder / name)
    places = {f"weight.{n}": name for n, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text("{}")
    return folder


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def checked(folder):
    return {check.name: check.status for check in verify_model(folder)}


def corrupt(file):
    """Change the last byte."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def publish(folder, kind):
    """Make the hub's checksums of all files known, in one of the places where they are found."""
    for file in [*shards(folder), folder / "config.json"]:
        content = file.read_bytes()
        value = hashlib.sha256(content).hexdigest()
        if file.suffix == ".json":
            value = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if kind == "sidecar":
            file.with_name(file.name + ".sha256").write_text(f"{value}  {file.name}\n")
        elif kind == "metadata":
            place = folder / ".cache/huggingface/download"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{file.name}.metadata").write_text(f"commit\n{value}\n123.4\n")
        else:
            (folder.parent / "blobs").mkdir(exist_ok=True)
            os.replace(file, folder.parent / "blobs" / value)
            file.symlink_to(folder.parent / "blobs" / value)


def test_a_second_check_says_what_has_stayed(folder):
    first, second = shards(folder)
    assert checked(folder) == {first.name: "first", second.name: "first"}
    fingerprint = digest_weights(b"facts", [first, second])
    notes = [check.note for check in verify_model(folder)]
    assert all(note.startswith("unchanged since 20") for note in notes)
    record = read_record([first, second])
    assert record is not None
    assert list(record.fingerprints.values()) == [fingerprint]


def test_a_new_file_is_reported_as_replaced_and_then_as_the_same(folder):
    first, second = shards(folder)
    checked(folder)
    digest_weights(b"facts", [first, second])
    save_file({"weight.1": torch.full((100,), 5.0)}, second)
    assert checked(folder) == {first.name: "same", second.name: "replaced"}
    record = read_record([first, second])
    assert record is not None
    assert record.fingerprints == {}
    assert checked(folder) == {first.name: "same", second.name: "same"}


def test_bytes_that_change_without_a_write_are_wrong_and_their_fingerprint_is_dropped(folder, monkeypatch, capsys):
    first, second = shards(folder)
    before = digest_weights(b"facts", [first, second])
    identity = weight_digests.identities([first, second])
    corrupt(second)
    monkeypatch.setattr("sala_core.model.verify.identities", lambda _: identity)  # a failing disk changes no times
    monkeypatch.setattr(weight_digests, "identities", lambda _: identity)
    assert digest_weights(b"facts", [first, second]) == before  # nothing has told of it so far
    for _ in range(2):
        assert checked(folder) == {first.name: "same", second.name: "changed"}
    assert run(parse(["verify", "--model", str(folder)])) == 1
    out = capsys.readouterr().out
    assert f"WRONG {second.name} (" in out
    assert "its bytes are not those of 20" in out
    assert "1 of 2 files wrong" in out
    assert digest_weights(b"facts", [first, second]) != before


@pytest.mark.parametrize("kind", ["sidecar", "metadata", "blobs"])
def test_published_checksums_are_found_and_compared(folder, kind, capsys):
    publish(folder, kind)
    first, second = shards(folder)
    assert [(check.name, check.published) for check in verify_model(folder)] == [
        (first.name, True), (second.name, True), ("config.json", True),
    ]  # fmt: skip
    assert run(parse(["verify", "--model", str(folder)])) == 0
    assert "3 files checked, 3 against published checksums: nothing is wrong" in capsys.readouterr().out
    corrupt(second)
    (folder / "config.json").resolve().write_text("[]")
    found = {check.name: check for check in verify_model(folder)}
    assert [found[name].status for name in (first.name, second.name, "config.json")] == ["same", "damaged", "damaged"]
    assert "not the published ones; delete it and download" in found[second.name].note
    assert "unless you have edited it" in found["config.json"].note


def test_a_file_that_disagrees_with_the_index_or_is_cut_short_is_wrong(folder):
    first, second = shards(folder)
    save_file({"weight.1": torch.zeros(100), "weight.2": torch.zeros(1)}, second)
    first.write_bytes(first.read_bytes()[:-10])
    found = {check.name: check for check in verify_model(folder)}
    assert (found[first.name].status, found[second.name].status) == ("damaged", "damaged")
    assert "cut short" in found[first.name].note
    assert "disagree about 1 tensor(s), weight.2" in found[second.name].note


def test_a_stopped_check_keeps_the_record_and_a_missing_shard_is_refused(folder):
    answers = iter([False, True])
    assert len(list(verify_model(folder, lambda: next(answers)))) == 1
    assert read_record(shards(folder)) is None
    shards(folder)[0].unlink()
    with pytest.raises(CheckpointError, match="lacks the shard model-00001"):
        list(verify_model(folder))


def test_other_texts_are_no_checksums(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "a.safetensors.sha256").write_text("not a checksum")
    assert published_checksum(tmp_path / "a.safetensors") is None

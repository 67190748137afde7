"""Fingerprints of unchanged weight files are not computed again, and those of changed files always are."""

import json
import multiprocessing
import os
import time

import pytest
import xxhash

from sala_core.errors import CheckpointError
from sala_core.model import weight_digests
from sala_core.model.weight_digests import FileIdentity, digest_weights, read_record, write_record

FACTS = b"facts"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder for each test."""
    monkeypatch.setattr(weight_digests, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, in order."""
    names, real = [], weight_digests.digest_file

    def counted(file, *others):
        names.append(file.name)
        return real(file, *others)

    monkeypatch.setattr(weight_digests, "digest_file", counted)
    return names


@pytest.fixture
def files(tmp_path):
    """Two files, written long ago, as far as the times tell that a program can set."""
    made = [tmp_path / "model-1.safetensors", tmp_path / "model-2.safetensors"]
    for n, file in enumerate(made):
        file.write_bytes(bytes([n]) * 1000)
    return made


def later(monkeypatch, seconds=10.0):
    """Let the files look as if they had been written some time ago: the clock goes on, the files' times do not."""
    real = time.time_ns()
    monkeypatch.setattr(weight_digests.time, "time_ns", lambda: real + int(seconds * 1e9))


def plain_digest(files, facts=FACTS):
    digest = xxhash.xxh3_128(facts)
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def test_unchanged_files_are_read_once_for_each_fingerprint(files, reads, monkeypatch):
    later(monkeypatch)
    assert digest_weights(FACTS, files) == digest_weights(FACTS, files) == plain_digest(files)
    assert reads == [file.name for file in files]
    assert digest_weights(b"other", files) == plain_digest(files, b"other")
    assert len(reads) == 4
    assert digest_weights(FACTS, files) == plain_digest(files)
    assert len(reads) == 4


def same_size_in_place(file):
    with file.open("r+b") as stream:
        stream.write(b"x")


def same_size_and_times(file):
    """Written in place, then given its old modification time: only the change time tells."""
    stat = file.stat()
    same_size_in_place(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replaced_by_another(file):
    other = file.with_name("other")
    other.write_bytes(b"x" * 1000)
    stat = file.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, file)


@pytest.mark.parametrize("change", [same_size_in_place, same_size_and_times, replaced_by_another])
def test_a_change_of_the_same_size_is_noticed(files, change, monkeypatch):
    later(monkeypatch)
    before = digest_weights(FACTS, files)
    time.sleep(0.02)  # more than the resolution of the kernel's clock
    change(files[1])
    assert digest_weights(FACTS, files) == plain_digest(files) != before


def test_files_written_within_two_seconds_are_not_recorded(files, reads, monkeypatch):
    """They could change once more without another time. So a second write in the same tick is never missed."""
    for offset in (0.0, 1.9):
        later(monkeypatch, offset)
        assert digest_weights(FACTS, files) == plain_digest(files)
        assert read_record(files) is None
    assert len(reads) == 4
    identity = weight_digests.identities(files)
    monkeypatch.setattr(weight_digests, "identities", lambda _: identity)  # as within one tick of a coarse clock
    same_size_in_place(files[0])
    assert digest_weights(FACTS, files) == plain_digest(files)


def test_files_that_change_while_they_are_read_are_not_recorded(files, monkeypatch):
    later(monkeypatch)
    real = weight_digests.digest_file

    def changing(file, *others):
        digest = real(file, *others)
        with files[0].open("ab") as stream:
            stream.write(b"x")
        return digest

    monkeypatch.setattr(weight_digests, "digest_file", changing)
    digest_weights(FACTS, files)
    assert read_record(files) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: text.replace('"num_bytes": 1000', '"num_bytes": "1000"'),
        lambda text: json.dumps(json.loads(text) | {"checksum": 5}),
        lambda text: text.replace(json.loads(text)["record"]["digests"][0], "0" * 32),
    ],
)
def test_a_damaged_record_is_ignored_and_replaced(files, cache, damage, monkeypatch, reads):
    later(monkeypatch)
    digest_weights(FACTS, files)
    (file,) = cache.glob("*.json")
    file.write_text(damage(file.read_text()))
    assert digest_weights(FACTS, files) == plain_digest(files)
    assert digest_weights(FACTS, files) == plain_digest(files)
    assert len(reads) == 4


def test_a_changed_fingerprint_in_the_record_is_not_believed(files, cache, monkeypatch):
    later(monkeypatch)
    digest_weights(FACTS, files)
    (file,) = cache.glob("*.json")
    file.write_text(file.read_text().replace(plain_digest(files), "0" * 32))
    assert digest_weights(FACTS, files) == plain_digest(files)


def test_a_cache_folder_that_cannot_be_made_only_costs_time(files, cache, monkeypatch):
    later(monkeypatch)
    cache.write_text("a file in its place")
    assert digest_weights(FACTS, files) == plain_digest(files)


def test_old_records_are_deleted(files, cache, monkeypatch):
    later(monkeypatch)
    monkeypatch.setattr(weight_digests, "_MAX_RECORDS", 3)
    for n in range(5):
        digest_weights(FACTS, [*files, *files][: n + 1])
    assert len(list(cache.glob("*.json"))) == 3


def _fingerprint_often(folder, files, worker, results):
    weight_digests.cache_folder = lambda: folder
    real = time.time_ns
    weight_digests.time.time_ns = lambda: real() + 10**10
    results.put({(worker, n): digest_weights(f"{worker}/{n}".encode(), files) for n in range(20)})


def test_two_processes_may_use_one_record(files, cache):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_fingerprint_often, args=(cache, files, n, results)) for n in range(2)]
    for worker in workers:
        worker.start()
    found = results.get(timeout=60) | results.get(timeout=60)
    for worker in workers:
        worker.join()
    assert {key: plain_digest(files, f"{key[0]}/{key[1]}".encode()) for key in found} == found
    record = read_record(files)
    assert record is not None
    assert set(record.fingerprints.values()) <= set(found.values())
    assert list(cache.glob(".*")) == []


def test_two_writers_of_the_same_bytes_keep_each_others_fingerprints(files):
    identity = tuple(FileIdentity.of(file) for file in files)
    digests = ("a" * 32, "b" * 32)
    start = time.time_ns() + 10**10
    for key in ("x", "y"):
        assert write_record(files, identity, digests, started_ns=start, fingerprints={key: "c" * 32})
    record = read_record(files)
    assert record is not None
    assert set(record.fingerprints) == {"x", "y"}


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="missing cannot be read"):
        digest_weights(FACTS, [tmp_path / "missing"])

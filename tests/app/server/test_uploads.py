"""Dropped folders: laid out, judged by the walk of a reading, received in parts, and removed when dropped."""

import errno
import json
import os
import shutil
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.page.reading_plan.plan import Plan
from app.server import upload_tree, uploads
from app.server.upload_body import Receiver
from app.server.upload_tree import Listing, files_to_send, lay_out, parts_of
from app.server.uploads import Upload, Uploads
from app.server.uploads_routes import uploads_router
from sala_core.errors import DiskFullError, UploadError
from sala_core.ingest import FoundFile, Limits, walk
from sala_core.ingest.folders.safety import REFUSED_FOLDERS

LIMITS = Limits()


class Workspace:
    """What uploads need of a workspace and of plans: folders, and a plan that takes a folder over."""

    def __init__(self, folder):
        self.folder, self.read = folder, []

    def new_upload_folder(self):
        folder = self.folder / f"{len(list(self.folder.iterdir())):032x}"
        folder.mkdir()
        return folder

    def of_upload(self, session_id, folder, paths):
        self.read.append((session_id, paths, folder))
        return Plan(id="p1", session_id=session_id, name="")


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    return Workspace(folder)


@pytest.fixture
def client(workspace):
    app = FastAPI()
    app.include_router(uploads_router(workspace, workspace))
    with TestClient(app) as client:
        yield client


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def listing_of(folder):
    """The listing of a browser that enters every folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    rules = [path for path in paths if path.name == ".gitignore" or path.match(".git/info/exclude")]
    return Listing(
        files=[(path.relative_to(folder.parent).as_posix(), path.stat().st_size) for path in paths],
        rules=[(path.relative_to(folder.parent).as_posix(), path.read_text()) for path in rules],
    )


def verdicts(path):
    return [(type(entry).__name__, entry.name, getattr(entry, "reason", "")) for entry in walk([path], LIMITS)]


PROJECT = {
    ".gitignore": b"build/\n*.log\n!keep.log\n",
    ".git/info/exclude": b"notes.txt\n",
    ".git/objects/aa/bb": b"x" * 100,
    ".env": b"PASSWORD=1\n",
    "id_rsa": b"key",
    "build/deep/out.py": b"pass\n",
    "keep.log": b"kept\n",
    "a.log": b"gone\n",
    "notes.txt": b"mine\n",
    "empty.txt": b"",
    "letter.pages": b"PK",
    "node_modules/left-pad/index.js": b"x",
    "env/pyvenv.cfg": b"home = /usr\n",
    "env/lib/thing.py": b"x",
    "src/ch2.py": b"two\n",
    "src/ch10.py": b"ten\n",
    "src/sub/.gitignore": b"*.tmp\n",
    "src/sub/x.tmp": b"x",
    "src/sub/é name.txt": b"accent\n",
}


def test_a_dropped_folder_is_judged_like_a_folder_given_by_its_path(tmp_path):
    folder = write(tmp_path / "typed" / "project", PROJECT)
    area = tmp_path / "area"
    area.mkdir()
    listing = listing_of(folder)
    lay_out(listing, area, LIMITS)
    found = verdicts(folder)
    assert verdicts(area / "files" / "project") == found
    names = {listing.files[index][0] for index in files_to_send(listing, area, LIMITS)}
    assert names == {name for kind, name, _ in found if kind == "FoundFile"}
    assert {"project/src/ch2.py", "project/keep.log", "project/.gitignore"} <= names
    assert not names & {"project/.env", "project/a.log", "project/notes.txt", "project/env/lib/thing.py"}


def test_an_unpacked_epub_is_sent_whole(tmp_path):
    names = ["mimetype", "META-INF/container.xml", "OEBPS/content.opf", "OEBPS/1.xhtml"]
    folder = write(tmp_path / "typed" / "p", {f"Book.epub/{name}": b"x" for name in names} | {"image.png": b""})
    area = tmp_path / "area"
    area.mkdir()
    listing = listing_of(folder)
    lay_out(listing, area, LIMITS)
    sent = {listing.files[index][0] for index in files_to_send(listing, area, LIMITS)}
    assert sent == {f"p/Book.epub/{name}" for name in names}
    assert ("FoundFile", "p/Book.epub", "") in verdicts(area / "files" / "p")


def test_a_folder_that_the_browser_did_not_enter_is_still_reported(tmp_path):
    area = tmp_path / "area"
    area.mkdir()
    listing = Listing(files=[("p/a.txt", 3)], folders=["p/.git", "p/web/node_modules"])
    lay_out(listing, area, LIMITS)
    assert verdicts(area / "files" / "p") == [
        ("FoundFile", "p/a.txt", ""),
        ("SkippedFile", "p/web/node_modules/", "installed packages"),
        ("SkippedFile", "p/.git/", "version control data"),
    ]


def test_a_file_that_is_too_large_is_reported_with_its_size_and_takes_no_space(tmp_path):
    area = tmp_path / "area"
    area.mkdir()
    listing = Listing(files=[("p/film.mkv", 40 << 30), ("p/a.txt", 1000)])
    lay_out(listing, area, LIMITS)
    assert files_to_send(listing, area, LIMITS) == {1}
    assert ("SkippedFile", "p/film.mkv", "40,960.0 MiB, over the limit of 512.0 MiB") in verdicts(area / "files" / "p")
    assert (area / "files" / "p" / "film.mkv").stat().st_blocks * 512 < 1 << 20


def test_the_ignore_rules_of_a_repository_around_the_library_do_not_apply(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.txt\n")
    area = tmp_path / "area"
    area.mkdir()
    listing = Listing(files=[("p/a.txt", 3), ("b.txt", 3)])
    lay_out(listing, area, LIMITS)
    assert files_to_send(listing, area, LIMITS) == {0, 1}


def test_files_and_folders_of_one_drop_keep_their_order(tmp_path):
    assert Listing(files=[("z.txt", 1), ("b/x", 1), ("a.txt", 1)], folders=["b/.git", "q"]).tops == [
        "z.txt", "b", "a.txt", "q",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "a/../../b", "a//b", "a/./b", "a/", "a\0b", "\ud800", "x" * 256, "d/" * 2000 + "f"],
)
def test_a_path_that_could_lead_out_of_the_folder_is_refused(path, tmp_path):
    with pytest.raises(UploadError):
        parts_of(path)
    for listing in (Listing(files=[(path, 1)]), Listing(files=[], folders=[path])):
        area = tmp_path / f"area{len(list(tmp_path.iterdir()))}"
        area.mkdir()
        with pytest.raises(UploadError):
            lay_out(listing, area, LIMITS)


@given(st.text(max_size=40))
def test_an_accepted_path_stays_below_the_folder(path):
    try:
        parts = parts_of(path)
    except UploadError:
        return
    home = Path("/area/files")
    assert os.path.commonpath([home, os.path.normpath(home.joinpath(*parts))]) == str(home)
    assert "/".join(parts) == path


@pytest.mark.parametrize("path", ["p/a.py", "p/x.gitignore", "p/info/exclude", "p/../.gitignore", ".git/config"])
def test_only_ignore_files_are_accepted_with_the_listing(path, tmp_path):
    with pytest.raises(UploadError):
        lay_out(Listing(files=[("p/a.txt", 1)], rules=[(path, "text")]), tmp_path, LIMITS)


def test_two_paths_that_are_the_same_file_here_are_refused(tmp_path):
    for number, files in enumerate(([("p/a", 1), ("p/a", 1)], [("p/a", 1), ("p/a/b", 1)], [("p/a/b", 1), ("p/a", 1)])):
        area = tmp_path / str(number)
        area.mkdir()
        with pytest.raises(UploadError, match="two of the files"):
            lay_out(Listing(files=files), area, LIMITS)


def upload_of(tmp_path, *files):
    area = tmp_path / "area"
    area.mkdir()
    listing = Listing(files=[(f"p/{name}", size) for name, size in files])
    lay_out(listing, area, LIMITS)
    return Upload(id="u", session_id="s", area=area, listing=listing, missing=set(range(len(files))))


def body_of(*files):
    return json.dumps([[index, len(data)] for index, data in files]).encode() + b"\n" + b"".join(d for _, d in files)


@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_files_arrive_complete_however_the_body_is_cut(cuts, tmp_path_factory):
    upload = upload_of(tmp_path_factory.mktemp("u"), ("a", 5), ("empty", 0), ("b", 9), ("c", 3))
    contents = {0: b"abcde", 1: b"", 2: b"123\n45678", 3: b"xyz"}
    body = body_of(*contents.items())
    receiver = Receiver(upload)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in pairwise(edges):
        receiver.feed(body[start:end])
    receiver.finish()
    receiver.close()
    assert {index: upload.target(index).read_bytes() for index in contents} == contents
    assert upload.missing == set()


def test_a_body_that_is_cut_short_leaves_its_file_missing_and_empty(tmp_path):
    upload = upload_of(tmp_path, ("a", 5), ("b", 500))
    receiver = Receiver(upload)
    receiver.feed(body_of((0, b"abcde"), (1, b"x" * 500))[:-100])
    with pytest.raises(UploadError, match="cut short"):
        receiver.finish()
    receiver.close()
    assert upload.missing == {1}
    assert upload.target(1).stat().st_size == 1
    again = Receiver(upload)
    again.feed(body_of((1, b"y" * 500)))
    again.finish()
    assert (upload.missing, upload.target(1).read_bytes()) == (set(), b"y" * 500)


@pytest.mark.parametrize(
    "body",
    [
        b"no json\n", b"[[0, 5], [0, 5]]\nabcdeabcde", b"[[7, 5]]\nabcde", b"[[-1, 5]]\nabcde", b"[[0, -5]]\n",
        b"[[0, 5]]\nabcdef", b"{}\nx", b"[[0, 999999999999]]\nx", b"x" * (1 << 21), b"[[0, 5, 6]]\nabcde",
        b'[["..", 5]]\nabcde', b"[[0, 1e99]]\nx", b"[[0, 1e999]]\nx", b"[" * 200_000 + b"\n", b"[[0, 6]]\nabcdef",
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused(body, tmp_path):
    upload = upload_of(tmp_path, ("a", 5))
    receiver = Receiver(upload)
    with pytest.raises(UploadError):
        receiver.feed(body)
    receiver.close()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a"]


def test_deeply_nested_json_is_refused_and_not_an_error_of_the_server(client):
    begun = client.post("/api/uploads", json={"session": "s1", "files": [["p/a.txt", 5]]}).json()
    deep = b"[" * 100_000
    assert client.post(f"/api/uploads/{begun['upload']}/files", content=deep + b"\n").status_code == 400
    headers = {"content-type": "application/json"}
    assert client.post("/api/uploads", content=deep, headers=headers).status_code in (400, 422)
    assert client.post(f"/api/uploads/{begun['upload']}/read", content=deep, headers=headers).status_code in (400, 422)


def test_more_bytes_than_were_announced_are_refused(client, workspace):
    begun = client.post("/api/uploads", json={"session": "s1", "files": [["p/a.txt", 5]]}).json()
    sent = client.post(f"/api/uploads/{begun['upload']}/files", content=body_of((0, b"x" * 6)))
    assert (sent.status_code, "larger than was announced" in sent.json()["detail"]) == (400, True)
    (placeholder,) = workspace.folder.rglob("a.txt")
    assert placeholder.stat().st_size == 1


def test_a_file_that_was_not_asked_for_is_not_accepted(client, workspace):
    begun = client.post("/api/uploads", json={"session": "s1", "files": [["p/.env", 5], ["p/a.txt", 2]]}).json()
    assert begun["wanted"] == [1]
    sent = client.post(f"/api/uploads/{begun['upload']}/files", content=body_of((0, b"A=1\n\n")))
    assert (sent.status_code, sent.json()["detail"]) == (
        400, "a file came that was not asked for; load the page again",
    )  # fmt: skip
    (stand_in,) = workspace.folder.rglob(".env")
    assert stand_in.stat().st_size == 1


def test_a_folder_is_listed_sent_and_read(client, workspace, tmp_path):
    folder = write(tmp_path / "drop" / "project", PROJECT)
    listing = listing_of(folder)
    begun = client.post("/api/uploads", json={"session": "s1", "files": listing.files, "rules": listing.rules}).json()
    names = [listing.files[index][0] for index in begun["wanted"]]
    contents = [(folder.parent / name).read_bytes() for name in names]
    early = client.post(f"/api/uploads/{begun['upload']}/read", json={})
    assert (early.status_code, "did not arrive" in early.json()["detail"]) == (400, True)
    half = len(names) // 2
    pairs = list(zip(begun["wanted"], contents, strict=True))
    for part in (pairs[:half], pairs[half:]):
        assert client.post(f"/api/uploads/{begun['upload']}/files", content=body_of(*part)).status_code == 200
    assert client.post(f"/api/uploads/{begun['upload']}/read", json={}).json() == {"plan": "p1"}
    ((session, (path,), owned),) = workspace.read
    assert (session, path, owned.parent) == ("s1", owned / "files" / "project", workspace.folder)
    assert verdicts(path) == verdicts(folder)
    for entry in walk([path], LIMITS):
        if isinstance(entry, FoundFile):
            assert Path(entry.path).read_bytes() == (folder.parent / entry.name).read_bytes()
    assert client.post(f"/api/uploads/{begun['upload']}/read", json={}).status_code == 410
    assert path.exists(), "the plan's folder is not the upload's to remove"


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
def test_a_file_that_the_browser_could_not_open_is_in_the_receipt(client, workspace):
    begun = client.post("/api/uploads", json={"session": "s1", "files": [["p/a.txt", 2], ["p/b.txt", 2]]}).json()
    client.post(f"/api/uploads/{begun['upload']}/files", content=body_of((0, b"ok")))
    assert client.post(f"/api/uploads/{begun['upload']}/read", json={"unreadable": [1, 1, 77]}).status_code == 200
    ((_, (path,), _),) = workspace.read
    assert ("SkippedFile", "p/b.txt", "cannot be opened: permission denied") in verdicts(path)


def test_dropping_an_upload_removes_everything(client, workspace):
    begun = client.post("/api/uploads", json={"session": "", "files": [["p/a.txt", 2]]}).json()
    assert len(list(workspace.folder.iterdir())) == 1
    for _ in range(2):
        assert client.delete(f"/api/uploads/{begun['upload']}").status_code == 200
    assert list(workspace.folder.iterdir()) == []
    assert client.post(f"/api/uploads/{begun['upload']}/files", content=body_of((0, b"ok"))).status_code == 410


@pytest.mark.parametrize(
    "listing",
    [{"files": []}, {"files": [["../x", 1]]}, {"files": [["a", -1]]}, {"files": [["a", 1]], "session": "x" * 65},
     {"files": [["a", 1]], "rules": [["b", "x"]]}],
)  # fmt: skip
def test_an_invalid_listing_leaves_nothing_behind(listing, client, workspace):
    assert client.post("/api/uploads", json={"session": "s1"} | listing).status_code in (400, 422)
    assert list(workspace.folder.iterdir()) == []


def test_files_that_do_not_fit_on_the_disk_are_refused_before_they_are_sent(client, workspace, monkeypatch):
    monkeypatch.setattr(upload_tree.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 300 << 20))
    refused = client.post("/api/uploads", json={"session": "s1", "files": [["p/a.pdf", 100 << 20]]})
    assert (refused.status_code, "105 MB would be copied" in refused.json()["detail"]) == (507, True)
    assert list(workspace.folder.iterdir()) == []


def test_an_upload_that_fills_the_disk_frees_its_space_again(client, workspace, monkeypatch):
    begun = client.post("/api/uploads", json={"session": "s1", "files": [["p/a.txt", 4]]}).json()

    def full(self, data):
        raise DiskFullError("the library's disk is full")

    monkeypatch.setattr(Receiver, "feed", full)
    sent = client.post(f"/api/uploads/{begun['upload']}/files", content=body_of((0, b"good")))
    assert (sent.status_code, sent.json()["detail"]) == (507, "the library's disk is full")
    assert list(workspace.folder.iterdir()) == []


def test_the_systems_error_for_a_full_disk_is_recognized():
    with pytest.raises(DiskFullError, match="type the folder's path"), upload_tree.disk_errors():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_upload_of_a_silent_browser_is_dropped(workspace, monkeypatch):
    timers = []

    class Timer:
        daemon = False

        def __init__(self, seconds, action, arguments):
            self.seconds, self.fire, self.is_cancelled = seconds, lambda: action(*arguments), False
            timers.append(self)

        def start(self):
            pass

        def cancel(self):
            self.is_cancelled = True

    monkeypatch.setattr(uploads.threading, "Timer", Timer)
    all_of_them = Uploads(workspace, workspace)
    upload = all_of_them.begin("s1", Listing(files=[("p/a.txt", 3)]))
    all_of_them.wait(upload, None)
    all_of_them.wait(upload, uploads.LOST_S)
    assert [(timer.seconds, timer.is_cancelled) for timer in timers] == [
        (uploads.IDLE_S, True),
        (uploads.LOST_S, False),
    ]
    timers[-1].fire()
    assert list(workspace.folder.iterdir()) == []
    all_of_them.wait(upload, uploads.IDLE_S)
    assert len(timers) == 2, "nobody waits for what is gone"


def test_the_number_of_uploads_at_a_time_is_limited(workspace):
    all_of_them = Uploads(workspace, workspace)
    begun = [all_of_them.begin("s1", Listing(files=[(f"{n}.txt", 3)])) for n in range(uploads.MAX_UPLOADS)]
    with pytest.raises(UploadError, match="too many"):
        all_of_them.begin("s1", Listing(files=[("x.txt", 3)]))
    for upload in begun:
        all_of_them.drop(upload.id)
    assert threading.active_count() < 20


def test_the_page_learns_which_folders_no_reading_enters(client):
    rules = client.get("/api/uploads").json()
    assert set(rules["folders"]) == REFUSED_FOLDERS
    assert {".git", "node_modules", ".ssh"} <= REFUSED_FOLDERS
    assert rules["marks"] == ["pyvenv.cfg", "CACHEDIR.TAG"]

"""Opening windows: no secret where others can read it, a second start, another user, another port, a restart."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from page_driver import wait_for

from app.grammar.parser import parse
from app.server import entrance
from app.server.key import FOLDER, PageKey, library_key
from sala_core.errors import LibraryError

RUNNER = """
import sys
from types import SimpleNamespace
import gradio as gr
from app.cli import _dispatch
from app.server import app as server
from app.grammar.parser import parse

class Workspace:
    def __init__(self, folder, *arguments, **options):
        self.library = SimpleNamespace(take_notices=list, folder=folder)
        self.offers = SimpleNamespace(all=list)
    def model_info(self):
        return SimpleNamespace(is_demonstration=False)
    def close(self): pass

sys.modules["sala_core.session.workspace"] = SimpleNamespace(Workspace=Workspace)
def build_page(workspace, *others):
    with gr.Blocks() as page:
        gr.Textbox("The page")
    return page
server.build_page = build_page
sys.exit(_dispatch(parse(sys.argv[1:])))
"""


@pytest.fixture
def library():
    """A library in a folder that exists already and that every user may enter."""
    home = Path(tempfile.mkdtemp(prefix="sala-test-"))
    home.chmod(0o755)
    folder = home / "library"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(home)


class Program:
    """The program in a process of its own, whose browser is a script that records its arguments."""

    def __init__(self, root, library, *options, settings=()):
        self.library = library
        self.opened = library.parent / "opened.txt"
        script = library.parent / "browser"
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {self.opened}\n')
        script.chmod(0o755)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels"), str(library.parent)]),
            "PYTHONUNBUFFERED": "1",
            "BROWSER": f"{script} %s",
        }
        command = [sys.executable, "-c", RUNNER, "--library", str(library), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=library.parent, env=environ)

    def line(self):
        return self.process.stdout.readline()

    def files(self):
        """The private files that browsers were started with."""
        found = self.opened.read_text().split() if self.opened.exists() else []
        assert all(each.startswith("file:///") for each in found)
        return [Path(each.removeprefix("file://")) for each in found]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()


def token_in(file):
    return re.search(r'name="token" value="([^"]+)"', file.read_text())[1]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and signals of POSIX")


def test_the_browser_is_started_with_a_private_file_and_no_secret_is_printed(root, library, browser):
    with Program(root, library) as program:
        shown = program.line()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/ and opens in your browser", shown)[1])
        wait_for(program.files, "the browser to start")
        (file,) = program.files()
        assert (mode(file), mode(file.parent), mode(library / FOLDER)) == (0o600, 0o700, 0o700)
        assert {mode(each) for each in (library / FOLDER).iterdir() if each.is_file()} == {0o600}
        token = token_in(file)
        assert token not in shown
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            assert token.encode() not in (process.read_bytes() if process.exists() else b"")

        context = browser.new_context()
        requests = []
        context.on("request", lambda request: requests.append(request))
        page = context.new_page()
        page.goto(file.as_uri())
        page.wait_for_url(re.compile(rf"http://127\.0\.0\.1:{port}/[\w-]+/$"))
        page.get_by_role("textbox").first.wait_for()
        assert not any(token in request.url + str(request.headers) for request in requests)
        assert not file.exists()
        assert not file.parent.exists()
        (cookie,) = context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (f"sala_launch_{port}", True, "Strict")
        assert cookie["expires"] > 29 * 24 * 3600
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_url(re.compile(rf"http://127\.0\.0\.1:{port}/[\w-]+/$"))
        page.get_by_role("textbox").first.wait_for()
        context.close()
    assert sorted(each.name for each in (library / FOLDER).iterdir()) == ["api-key", "key"]


def test_a_second_start_opens_a_window_of_the_running_program(root, library):
    with Program(root, library, "--no-browser") as first:
        address = first.line().split()[1]
        with Program(root, library) as second:
            assert "runs already" in second.line()
            assert second.process.wait(timeout=120) == 0
            wait_for(second.files, "the browser to start")
            (file,) = second.files()
            assert f'action="{address.partition("?")[0]}open"' in file.read_text()
        with Program(root, library, "--no-browser") as third:
            assert re.match(rf"Sala runs already\. Open {re.escape(address.partition('=')[0])}=\S+\n", third.line())
            assert third.process.wait(timeout=120) == 0
        with Program(root, library, "--no-browser", "--device", "cpu") as other:  # other settings: a program of its own
            assert other.line().startswith("Open http")


def test_a_program_that_has_switched_its_model_is_entered_unless_another_one_is_named(library, monkeypatch, capsys):
    library_key(library)
    monkeypatch.setattr(entrance, "_is_alive", lambda key, port: True)
    plain = parse(["--no-browser"])
    entrance.note_running(library, 7863, {**entrance.settings_of(plain), "model": "org/other"})
    assert entrance.enter_running(plain, library)
    assert entrance.enter_running(parse(["--no-browser", "--model", "org/other"]), library)
    assert not entrance.enter_running(parse(["--no-browser", "--model", "embedded"]), library)


def test_a_record_of_a_program_that_is_gone_or_of_a_foreign_one_is_not_trusted(library, monkeypatch, capsys):
    library_key(library)
    arguments = parse(["--no-browser"])
    received = []

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self):
            received.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 43)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    entrance.note_running(library, port, entrance.settings_of(arguments))
    assert not entrance.enter_running(arguments, library)
    server.shutdown()
    server.server_close()
    assert not entrance.enter_running(arguments, library)
    assert len(received) == 1
    assert "token" not in received[0]
    assert capsys.readouterr().out == ""
    for broken in (b"", b"{}", b"[" * 100_000, b'{"port": "x"}', b'{"port": 1, "settings": 3}'):
        (library / FOLDER / f"running-{port}.json").write_bytes(broken)
        assert not entrance.enter_running(arguments, library)


SPY = """
import sys, urllib.request, urllib.error
from pathlib import Path
library, port, place = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
for file in (library / "page", library / "page" / "key", library / "page" / f"running-{port}.json", Path(sys.argv[4])):
    try:
        print("read", file, list(file.iterdir()) if file.is_dir() else file.read_bytes())
    except OSError:
        pass
for path in ("/", "/config", "/api/health", place + "/", place + "/config", place + "/api/health", "/open"):
    try:
        print("got", path, urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").status)
    except urllib.error.HTTPError as error:
        assert error.code == 403, error.code
for process in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        words = process.read_bytes()
    except OSError:
        continue
    if b"tok" b"en=" in words:
        print("listed", words)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_of_the_computer_gets_nothing(root, library):
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no Python that every user may run")
    with Program(root, library) as program:
        port = re.search(r":(\d+)/", program.line())[1]
        wait_for(program.files, "the browser to start")
        (file,) = program.files()
        place = f"/{library_key(library).place}"
        arguments = [python, "-I", "-c", SPY, str(library), port, place, str(file)]
        options = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/", "env": {}}
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, **options)
        assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_key_that_others_can_read_is_replaced(library):
    first = library_key(library)
    assert library_key(library).place == first.place
    file = library / FOLDER / "key"
    file.chmod(0o644)
    second = library_key(library)
    assert second.place != first.place
    assert mode(file) == 0o600
    for damage in (b"", b"short", b"x" * 33):
        file.write_bytes(damage)
        assert library_key(library).place != second.place
    file.unlink()
    file.symlink_to("/dev/zero")
    assert library_key(library).place != second.place
    (library / FOLDER).chmod(0o755)
    library_key(library)
    assert mode(library / FOLDER) == 0o700


def test_a_key_that_cannot_be_kept_is_refused(tmp_path):
    (tmp_path / FOLDER).write_text("")
    with pytest.raises(LibraryError, match="--library"):
        library_key(tmp_path)


def test_only_private_folders_of_windows_are_deleted(library, monkeypatch):
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: library.parent))
    kept = library.parent / "kept"
    kept.mkdir()
    (kept / "open.html").write_text("mine")
    for name in ("kept", "../kept", "sala-open-/../kept", "", ".", "sala-open-x/../../kept"):
        entrance.remove_redirect(library, name)
    assert (kept / "open.html").read_text() == "mine"
    file = entrance.redirect_file(library, 1, PageKey.fresh().new_token())
    entrance.remove_redirect(library, file.parent.name)
    assert not file.parent.exists()


WINDOW = """
class WebViewException(Exception):
    pass

class errors:
    WebViewException = WebViewException

def create_window(title, url, **options):
    import os, urllib.request
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    print("window", title, opener.open(url).status, flush=True)
    if "NO_SCREEN" in os.environ:
        globals()["start"] = refuse

def refuse():
    raise WebViewException("no screen")

def start():
    pass
"""


@pytest.mark.parametrize("screen", [True, False])
def test_a_native_window_is_served_until_it_is_closed(root, library, monkeypatch, screen):
    (library.parent / "webview.py").write_text(WINDOW)
    if not screen:
        monkeypatch.setenv("NO_SCREEN", "1")
    with Program(root, library, "--window") as program:
        assert program.line() == "window Sala 200\n"
        rest, _ = program.process.communicate(timeout=30)
        assert "token" not in rest
        assert program.files() == []
        assert program.process.returncode == (0 if screen else 1)

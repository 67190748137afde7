"""A window and the program: another port gets no cookie, and a window outlives a restart of the program."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

from page_driver import Window, serving
from playwright.sync_api import expect

from app.server.key import PageKey

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_a_program_on_another_port_gets_nothing(window, context, served):
    received = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            received.append((self.path, self.headers.get("Cookie"), self.headers.get("Referer")))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title><iframe src='http://127.0.0.1:%d/'></iframe>" % served.port)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = context.browser.new_context(storage_state=context.storage_state()).new_page()
    for host in ("127.0.0.1", "localhost"):
        for path in ("/", "/gradio_api/", "/x/y/"):
            page.goto(f"http://{host}:{server.server_address[1]}{path}")
    assert page.title() == "other"
    assert page.evaluate("localStorage.length") == 0
    read = f"fetch('{served.home}api/health', {{credentials: 'include'}}).then((r) => r.text(), () => 'refused')"
    assert page.evaluate(read) == "refused"
    page.context.close()
    server.shutdown()
    server.server_close()
    assert len(received) >= 6
    assert {cookie for _, cookie, _ in received} == {None}
    assert not any(str(served.port) in (referer or "") for _, _, referer in received)


def test_a_window_comes_back_by_itself_after_a_restart(browser, workspace, book):
    key = PageKey.fresh()
    context = browser.new_context()
    with serving(workspace, key=key) as first:
        window = Window(context.new_page(), first).open(token=True)
        window.upload(book)
        window.wait_read()
    note = window.page.locator("#door-note")
    expect(note).to_contain_text("start it again with python3 launch.py", timeout=30_000)
    with serving(workspace, port=first.port, key=key):
        expect(note).to_have_count(0, timeout=30_000)
        window.ready()
        assert window.title == "novel"
        window.ask("Still there?")
        window.wait_answers(1)
        later = Window(context.new_page(), first)
        later.page.goto(f"http://127.0.0.1:{first.port}/?session=novel")
        assert later.ready().title == "novel"
        expect(later.page).to_have_url(re.compile(rf"/{key.place}/\?session=novel$"))
    context.close()


def test_a_window_that_the_program_no_longer_knows_says_what_to_do(browser, workspace):
    context = browser.new_context()
    with serving(workspace) as first:
        window = Window(context.new_page(), first).open(token=True)
    with serving(workspace, port=first.port):
        note = window.page.locator("#door-note")
        expect(note).to_contain_text("Run python3 launch.py on this computer", timeout=30_000)
        window.page.reload()
        expect(window.page.get_by_role("heading")).to_have_text("This page is not open in this browser yet")
    context.close()

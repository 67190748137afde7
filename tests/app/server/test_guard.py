"""The guard: each of its rules, in front of a small application that records what reaches it."""

import base64
import hashlib
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDisconnect

from app.server.guard import Guard
from app.server.key import PageKey

PORT = 7863
ORIGIN = f"http://127.0.0.1:{PORT}"
PAGE = "<html><script>window.a = 1;</script><script type='module' src='/assets/x.js'></script></html>"


class Site:
    """An application behind a guard, and what reached it."""

    def __init__(self, **options):
        self.reached = []
        self.fresh = []
        self.encodings = []
        names = ["GET", "POST", "PUT", "DELETE", "PATCH"]
        app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/data", self.data, methods=names),
                Route("/assets/x.js", self.asset),
                Route("/gradio_api/{rest:path}", self.data, methods=names),
                Route("/api/{rest:path}", self.data, methods=names),
                WebSocketRoute("/socket", self.socket),
            ]
        )
        self.guard = Guard(app, port=PORT, token="secret-token", on_new_token=self.fresh.append, **options)

    async def page(self, request: Request):
        self.reached.append("page")
        self.encodings.append(request.headers.get("accept-encoding"))
        return HTMLResponse(PAGE)

    async def data(self, request: Request):
        body = await request.body()
        self.reached.append((request.method, len(body)))
        headers = {"access-control-allow-origin": "*", "cache-control": "public, max-age=9"}
        return JSONResponse({"private": True}, headers=headers)

    async def asset(self, request: Request):
        return PlainTextResponse("js", headers={"cache-control": "max-age=31536000"})

    async def socket(self, websocket):
        self.reached.append("socket")
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    def client(self, place: str | None = None) -> TestClient:
        """A client whose paths are below the page's place, as a browser's are; '' for the paths as they are."""
        below = self.guard.place if place is None else place
        return TestClient(self.guard, base_url=ORIGIN + below, follow_redirects=False)


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def browser(site):
    """A client that has opened the page with the token, as the user's browser does."""
    client = site.client()
    assert client.get("/?token=secret-token").status_code == 303
    return client


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_servers_own_hosts_are_served(browser, host):
    assert browser.get("/data", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:80",
        f"127.0.0.1.evil.example:{PORT}",
        "",
        f"0.0.0.0:{PORT}",
    ],
)
def test_any_other_host_is_refused_even_with_the_cookie(site, browser, host):
    assert browser.get("/data", headers={"host": host}).status_code == 403
    assert site.reached == []


def test_two_hosts_are_refused(site, browser):
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = [("host", f"127.0.0.1:{PORT}"), ("host", "evil.example"), ("cookie", cookie)]
    assert browser.get("/data", headers=httpx.Headers(headers)).status_code == 403
    assert site.reached == []


@pytest.mark.parametrize("path", ["/", "/data", "/assets/x.js", "/gradio_api/queue/data", "/nothing"])
@pytest.mark.parametrize("cookie", [None, f"sala_launch_{PORT}=guess", f"sala_launch_{PORT}=", "broken;;=;\x01"])
def test_nothing_is_served_without_the_cookie(site, path, cookie):
    headers = {} if cookie is None else {"cookie": cookie}
    assert site.client().get(path, headers=headers).status_code == 403
    assert site.reached == []


def test_the_token_is_exchanged_by_a_redirect_for_a_strict_cookie(site):
    response = site.client().get("/?session=a%20b&token=secret-token")
    assert response.status_code == 303
    assert response.headers["location"] == f"{site.guard.place}/?session=a+b"
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"path={site.guard.place}/;".lower() in cookie
    assert "max-age=2592000" in cookie
    assert "secret-token" not in cookie


def test_the_token_works_once(site, browser):
    assert site.client().get("/?token=secret-token").status_code == 403
    assert browser.get("/?token=secret-token").status_code == 303
    assert browser.get("/").status_code == 200


def test_a_wrong_token_opens_nothing(site):
    for token in ("", "wrong", "secret-token2", "ünicode"):
        assert site.client().get("/", params={"token": token}).status_code == 403


def test_the_token_does_not_allow_a_post(site):
    response = site.client().post("/data?token=secret-token", headers={"origin": ORIGIN})
    assert response.status_code == 403
    assert site.reached == []


def test_the_redirect_stays_on_this_server(site):
    response = site.client().get(f"{ORIGIN}//evil.example/?token=secret-token")
    assert response.headers["location"] == f"{site.guard.place}/evil.example/"


def test_a_cookie_of_another_launch_is_not_valid(browser):
    other = Site()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    assert other.client().get("/data", headers={"cookie": cookie}).status_code == 403


def test_the_cookie_lasts_through_a_restart_with_the_same_key(monkeypatch):
    key = PageKey(b"k" * 32)
    first, second = Site(key=key), Site(key=PageKey(b"k" * 32))
    client = first.client()
    client.get("/?token=secret-token")
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    assert second.guard.place == first.guard.place
    assert second.client().get("/data", headers={"cookie": cookie}).status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 29 * 24 * 3600)
    response = second.client().get("/", headers={"cookie": cookie})
    assert response.status_code == 200
    assert "max-age=2592000" in response.headers["set-cookie"].lower()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    assert second.client().get("/data", headers={"cookie": cookie}).status_code == 403


def test_a_changed_cookie_opens_nothing(site, browser):
    ((name, value),) = browser.cookies.items()
    for changed in (
        value[:-1],
        "9" + value,
        value.replace(".", "..", 1),
        "..",
        "",
        "1.x." + value.rpartition(".")[2],
    ):
        headers = [(b"cookie", f"{name}={changed}".encode("latin-1"))]
        assert site.client().get("/data", headers=httpx.Headers(headers)).status_code == 403


def test_the_cookie_opens_nothing_outside_of_the_pages_place(site, browser):
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for path in ("/data", "/", "/assets/x.js", f"{site.guard.place}x/data", site.guard.place):
        assert site.client("").get(path, headers={"cookie": cookie}).status_code == 403
    assert site.reached == []


def test_the_private_file_opens_the_page_by_a_form_although_its_origin_is_none():
    opened = []
    site = Site(on_opened=opened.append)
    client = site.client("")
    headers = {"origin": "null", "sec-fetch-site": "cross-site"}
    form = {"token": "secret-token", "file": "sala-open-x"}
    response = client.post("/open", data=form, headers=headers)
    assert response.status_code == 200
    assert "secret-token" not in response.text + str(response.headers)
    assert f'content="0;url={site.guard.place}/"' in response.text
    assert opened == ["sala-open-x"]
    cookie = response.headers["set-cookie"].partition(";")[0]
    assert site.client().get("/data", headers={"cookie": cookie}).status_code == 200
    assert client.post("/open", data=form, headers=headers).status_code == 403
    assert client.post("/open", data={"token": "x" * 9000}, headers=headers).status_code == 403
    assert client.post("/open", headers=headers).status_code == 403
    foreign = Site().client("").post("/open", data=form, headers={**headers, "host": "evil.example"})
    assert foreign.status_code == 403
    assert "set-cookie" not in foreign.headers


def test_a_token_of_another_start_opens_one_window_for_two_minutes(monkeypatch):
    key = PageKey(b"k" * 32)
    site = Site(key=key)
    token, late = key.new_token(), key.new_token()
    assert site.client().get("/", params={"token": token}).status_code == 303
    assert site.client().get("/", params={"token": token}).status_code == 403
    assert site.client().get("/", params={"token": PageKey.fresh().new_token()}).status_code == 403
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 121)
    assert site.client().get("/", params={"token": late}).status_code == 403


def test_only_the_program_with_the_key_can_prove_that_it_runs():
    key = PageKey(b"k" * 32)
    client = Site(key=key).client("")
    assert client.get("/alive", params={"challenge": "abc"}).text == key.proof("abc")
    assert key.proof("abc") not in (PageKey.fresh().proof("abc"), key.proof("abd"))
    assert client.get("/alive").status_code == 403
    assert client.get("/alive", params={"challenge": "x" * 65}).status_code == 403
    assert client.get("/alive", params={"challenge": "abc"}, headers={"host": "evil.example"}).status_code == 403


def test_what_browsers_ask_for_without_the_cookie_is_empty(site):
    assert site.client("").get("/favicon.ico").content == b""
    assert site.client("").get("/manifest.json").json() == {"name": "Sala"}  # Chromium reports one without members


def test_a_browser_without_cookie_gets_an_explanation_and_a_new_address_when_no_token_is_left(site, browser):
    stranger = site.client()
    response = stranger.get("/", headers={"accept": "text/html"})
    assert response.status_code == 403
    assert "python3 launch.py" in response.text
    assert "address that the program printed" in " ".join(response.text.split())
    stranger.get("/", headers={"accept": "text/html"})
    assert len(site.fresh) == 1
    assert stranger.get("/", params={"token": site.fresh[0]}).status_code == 303
    assert stranger.get("/").status_code == 200


def test_there_is_no_new_address_while_a_token_is_unused(site):
    site.client().get("/", headers={"accept": "text/html"})
    assert site.fresh == []


CHANGING = ["POST", "PUT", "DELETE", "PATCH"]


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": f"http://localhost:{PORT}"},
        {"origin": f"https://127.0.0.1:{PORT}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_a_change_from_another_origin_is_refused(site, browser, method, headers):
    assert browser.request(method, "/data", headers=headers).status_code == 403
    assert site.reached == []


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ORIGIN},
        {"sec-fetch-site": "same-origin"},
        {"origin": ORIGIN, "sec-fetch-site": "same-origin"},
    ],
)
def test_a_change_from_the_page_passes(site, browser, method, headers):
    assert (
        browser.request(
            method,
            "/data",
            headers=headers,
        ).status_code
        == 200
    )
    assert site.reached == [(method, 0)]


def test_another_local_server_cannot_read_with_the_cookie(browser):
    headers = {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}
    assert browser.get("/data", headers=headers).status_code == 403


def test_a_link_on_another_site_may_be_followed(browser):
    headers = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert browser.get("/", headers=headers).status_code == 200
    assert browser.get("/", headers={**headers, "sec-fetch-dest": "iframe"}).status_code == 403


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}])
def test_a_socket_from_another_origin_is_refused(site, browser, headers):
    with (
        pytest.raises(WebSocketDisconnect),
        browser.websocket_connect(f"ws://127.0.0.1:{PORT}/socket", headers=headers),
    ):
        pass
    assert site.reached == []


def test_a_socket_needs_the_cookie(site, browser):
    headers = {"origin": ORIGIN, "host": f"127.0.0.1:{PORT}"}
    path = f"{site.guard.place}/socket"
    with pytest.raises(WebSocketDisconnect), site.client().websocket_connect(path, headers=headers):
        pass
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with browser.websocket_connect(path, headers={**headers, "cookie": cookie}) as socket:
        assert socket.receive_text() == "hello"
    with (
        pytest.raises(WebSocketDisconnect),
        browser.websocket_connect("/socket", headers={**headers, "cookie": cookie}),
    ):
        pass


@pytest.mark.parametrize("path", ["/", "/data", "/nothing", "/assets/x.js", "/gradio_api/file=/etc/passwd"])
@pytest.mark.parametrize("known", [True, False])
def test_every_response_has_the_security_headers(site, browser, path, known):
    headers = (browser if known else site.client()).get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    for rule in (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "frame-ancestors 'none'",
        "object-src 'none'",
    ):
        assert rule in policy.split("; ")
    assert "access-control-allow-origin" not in headers


def test_private_responses_are_not_cached_but_files_that_never_change_are(browser):
    assert browser.get("/").headers["cache-control"] == "no-store"
    assert browser.get("/data").headers["cache-control"] == "no-store"
    assert browser.get("/assets/x.js").headers["cache-control"] == "max-age=31536000"


def test_only_the_pages_own_inline_scripts_may_run():
    site = Site(inline_scripts=("added();",))
    client = site.client()
    client.get("/?token=secret-token")
    policy = client.get("/", headers={"accept": "text/html", "accept-encoding": "br"}).headers[
        "content-security-policy"
    ]
    scripts = next(rule for rule in policy.split("; ") if rule.startswith("script-src"))
    hashes = [base64.b64encode(hashlib.sha256(body).digest()).decode() for body in (b"window.a = 1;", b"added();")]
    assert scripts == "script-src 'self' " + " ".join(f"'sha256-{value}'" for value in hashes)
    assert "unsafe" not in scripts
    assert site.encodings == [None]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file%3D/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=http://example.org/x",
        "/gradio_api/proxy=http://example.org/x",
        "/gradio_api/runs",
        "/monitoring",
        "/gradio_api/upload",
        "/gradio_api/upload_progress",
        "/gradio_api/vibe-code",
    ],
)
def test_routes_that_read_paths_or_fetch_from_other_servers_are_closed(site, browser, path):
    assert browser.get(path).status_code == 404
    assert site.reached == []


def test_a_body_over_the_limit_is_refused(site):
    small = Site(max_body_bytes=100, max_upload_bytes=1000)
    client = small.client()
    client.get("/?token=secret-token")
    headers = {"origin": ORIGIN}
    assert client.post("/data", content=b"x" * 100, headers=headers).status_code == 200
    assert client.post("/data", content=b"x" * 101, headers=headers).status_code == 413
    assert client.post("/data", content=iter([b"x" * 60] * 2), headers=headers).status_code == 413
    path = f"/api/uploads/{'0' * 32}/files"
    assert client.post(path, content=b"x" * 1000, headers=headers).status_code == 200
    assert client.post(path, content=b"x" * 1001, headers=headers).status_code == 413
    assert client.post("/data", content=b"x", headers={**headers, "content-length": "-1"}).status_code == 413
    assert small.reached == [("POST", 100), ("POST", 1000)]

"""Who may use the API: the key, the host, other web pages, and the size of a body."""

import asyncio
import os
import stat

import httpx
import pytest
from api_server import ORIGIN
from starlette.requests import Request

from app.server.api.access import MAX_BODY_BYTES, Access
from app.server.api.key import api_key


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic {key}", "Bearer {key}x"])
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/nothing"])
def test_nothing_is_served_without_the_key(served, path, given):
    response = httpx.get(served.url + path, headers={"authorization": given.format(key=served.key)})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "cookie" not in response.headers


def test_health_needs_no_key_and_tells_nothing_else(served):
    assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1"])
def test_any_other_host_is_refused_even_with_the_key(served, host):
    response = served.client.get("/v1/models", headers={"host": host.format(port=served.port)})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "wrong_host")


def test_a_web_page_is_refused_unless_its_origin_was_allowed(served):
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        response = served.client.get("/v1/models", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "wrong_origin")
        assert "access-control-allow-origin" not in response.headers
    allowed = served.client.get("/v1/models", headers={"origin": ORIGIN, "sec-fetch-site": "cross-site"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    without = httpx.get(f"{served.url}/v1/models", headers={"origin": ORIGIN})
    assert without.status_code == 401, "an allowed page needs the key too"
    asked = httpx.options(f"{served.url}/v1/models", headers={"origin": ORIGIN})
    assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (200, "authorization, content-type")


def test_every_response_has_the_security_headers(served):
    for path in ("/v1/models", "/health", "/v1/nothing"):
        headers = served.client.get(path).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in headers


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_beyond_the_limit_is_refused(is_announced):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def send(message):
        sent.append(message)

    async def reads(scope, receive, send):
        assert not is_announced, "it was refused before"
        await Request(scope, receive).body()

    headers = [(b"host", b"h"), (b"authorization", b"Bearer k")]
    headers += [(b"content-length", b"101")] if is_announced else []
    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": headers, "query_string": b""}
    asyncio.run(Access(reads, key=lambda: "k", hosts=["h"], max_body_bytes=100)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert b"request_too_large" in sent[1]["body"]
    assert MAX_BODY_BYTES == 64 * 2**20


@pytest.mark.skipif(os.name == "nt", reason="the rights of files are others there")
def test_the_key_is_a_private_file_and_one_that_others_can_read_is_replaced(tmp_path):
    key = api_key(tmp_path)
    file = tmp_path / "page" / "api-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert api_key(tmp_path) == key
    file.chmod(0o644)
    other = api_key(tmp_path)
    assert other != key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert api_key(tmp_path) not in (key, other)
    assert not file.is_symlink()

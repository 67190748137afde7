"""The server under connections that other programs hold open: the page answers, and the log stays small."""

import http.client
import logging
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.server.app import listening_socket
from app.server.connections import ConnectionLimits, LogLimit, limited_protocol

HEAD = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"


class Site:
    """A small application that reads bodies, or refuses them unread."""

    def __init__(self):
        self.events = []
        routes = [Route("/", self.page), Route("/body", self.body, methods=["POST"])]
        self.app = Starlette(routes=[*routes, Route("/refuse", self.refuse, methods=["POST"])])

    async def page(self, request):
        return PlainTextResponse("here")

    async def refuse(self, request):
        return PlainTextResponse("no", status_code=403)

    async def body(self, request):
        try:
            data = await request.body()
        except ClientDisconnect:
            self.events.append("gone")
            raise
        return PlainTextResponse(str(len(data)))


@contextmanager
def running(**limits):
    site = Site()
    with listening_socket(0) as listener:
        protocol = limited_protocol(ConnectionLimits(**limits))
        server = uvicorn.Server(
            uvicorn.Config(site.app, http=protocol, ws="none", log_config=None, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        site.port = listener.getsockname()[1]
        try:
            yield site
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def connect(site):
    return socket.create_connection(("127.0.0.1", site.port), timeout=10)


def get(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.request("GET", "/")
    text = connection.getresponse().read()
    connection.close()
    return text


def reply(connection, ending):
    """What the server sends, up to its ending."""
    text = b""
    while not text.endswith(ending):
        more = connection.recv(4096)
        assert more, text
        text += more
    return text


def ended(connection):
    """Whether the server closes the connection within the socket's time limit."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_1200_half_open_connections_do_not_hold_the_page_up(caplog):
    resource = pytest.importorskip("resource", reason="no limit on open files can be set here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard == resource.RLIM_INFINITY else min(hard, 4096), hard))
    try:
        with running() as site, ExitStack() as held, caplog.at_level(logging.DEBUG):
            for number in range(1200):
                connection = held.enter_context(connect(site))
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " if number % 2 else b"")
                if number % 200 == 0:
                    assert get(site) == b"here"
            assert get(site) == b"here"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(len(record.getMessage()) for record in caplog.records) < 20_000


def test_the_oldest_waiting_connection_gives_way():
    with running(max_waiting=3) as site, ExitStack() as held:
        connections = [held.enter_context(connect(site)) for _ in range(6)]
        assert all(map(ended, connections[:3]))
        connections[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert reply(connections[-1], b"here")


def test_a_head_has_a_time_limit_that_single_bytes_do_not_extend():
    with running(head_s=0.5) as site, connect(site) as connection:
        connection.settimeout(0.1)
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        is_closed = False
        for _ in range(100):
            try:
                connection.sendall(b"x")
            except OSError:
                is_closed = True
                break
            time.sleep(0.05)
        assert is_closed


def test_a_body_has_a_time_limit_and_the_application_hears_of_it():
    with running(body_s=0.3) as site, connect(site) as connection:
        connection.sendall(HEAD + b"x" * 10)
        assert ended(connection)
        time.sleep(0.2)
    assert site.events == ["gone"]


def test_a_body_that_comes_fast_enough_is_read_whole():
    with running(body_s=0.2, min_body_bytes_per_s=1000) as site, connect(site) as connection:
        connection.sendall(HEAD)
        for _ in range(10):
            connection.sendall(b"x" * 10_000)
            time.sleep(0.1)
        assert reply(connection, b"100000")


def test_a_body_that_is_refused_does_not_hold_its_connection():
    with running(unread_s=0.3) as site, connect(site) as connection:
        connection.sendall(HEAD.replace(b"/body", b"/refuse"))
        assert reply(connection, b"no")
        assert ended(connection)


def test_a_connection_is_used_for_several_requests():
    with running(head_s=1) as site, connect(site) as connection:
        for _ in range(3):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reply(connection, b"here")
            time.sleep(0.5)
        assert ended(connection)


def test_the_log_is_limited_and_says_what_it_left_out():
    limit = LogLimit(max_records=3, period_s=0.2)

    def record():
        return logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Invalid %s", ("request",), None)

    assert [limit.filter(record()) for _ in range(1000)].count(True) == 3
    time.sleep(0.25)
    last = record()
    assert limit.filter(last)
    assert last.getMessage() == "Invalid request (997 messages before this one were left out)"

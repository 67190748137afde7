"""A peer behind HTTP: requests, answers, retries and errors."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from eval_helpers import task_named

from sala_core.errors import EvalError
from sala_core.evals import Access, Endpoint, EvalPlan, PeerTokens, SampleDone, evaluate
from sala_core.evals.records import Reply
from sala_core.model.checkpoint import EMBEDDED, resolve_model


class Server:
    """An HTTP server. respond(body, number of the request) returns (status, headers, body)."""

    def __init__(self, respond):
        self.requests, outer = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                status, headers, answer = respond(body, len(outer.requests))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def completion(text, **more):
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], **more}


@pytest.fixture
def serve():
    servers = []

    def start(respond):
        servers.append(Server(respond))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def tokens():
    return PeerTokens(resolve_model(EMBEDDED))


def peer(server, tokens, **access):
    return Endpoint(Access(**{"url": server.url, "model": "peer-1", "wait_s": 0.01, **access}), tokens)


def answers(endpoint, reading, stop=lambda: False):
    return [event for event in endpoint.answers(reading, reading.questions[:1], stop) if isinstance(event, Reply)]


@pytest.fixture
def reading(make, tokens):
    return make(*task_named("niah_single_2"), counter=tokens)


def test_a_request_is_a_chat_completion_with_the_text_and_the_question(serve, tokens, reading):
    server = serve(
        lambda body, n: (200, {}, completion("It is 7.", usage={"prompt_tokens": 99, "completion_tokens": 4}))
    )
    (reply,) = answers(peer(server, tokens, api_key="secret"), reading)
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("peer-1", 0, 128)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert reading.document.text in body["messages"][1]["content"]
    assert body["messages"][1]["content"].endswith(reading.questions[0].text)
    assert (reply.text, reply.reason, reply.prompt_tokens, reply.answer_tokens) == ("It is 7.", "stop", 99, 4)
    assert reply.evidence is None


def test_without_a_key_no_header_is_sent_and_a_full_address_is_used_as_given(serve, tokens, reading):
    server = serve(lambda body, n: (200, {}, completion("x")))
    answers(peer(server, tokens, url=server.url + "/chat/completions/"), reading)
    assert server.requests[0][0] == "/v1/chat/completions"
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize("name", ["niah_multiquery", "cwe", "mrcr_2", "quote", "nolima", "absent"])
def test_the_prompt_that_is_sent_is_exactly_as_long_as_asked(make, tokens, name):
    reading = make(*task_named(name), counter=tokens)
    counts = [tokens.count_messages(tokens.messages(reading, question)) for question in reading.questions]
    assert max(counts) == 2048
    for message in tokens.messages(reading, reading.questions[0])[1:]:
        assert message["role"] in ("user", "assistant")
    roles = [message["role"] for message in tokens.messages(reading, reading.questions[0])]
    assert all(a != b for a, b in pairwise(roles))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_to_a_busy_server_is_repeated(serve, tokens, reading, status):
    server = serve(lambda body, n: (200, {}, completion("yes")) if n == 3 else (status, {}, {"error": "later"}))
    (reply,) = answers(peer(server, tokens), reading)
    assert reply.text == "yes"
    assert len(server.requests) == 3


def test_the_pause_is_at_least_what_the_server_asks_for(serve, tokens, reading):
    server = serve(lambda body, n: (200, {}, completion("yes")) if n == 2 else (429, {"Retry-After": "0.4"}, b""))
    started = time.monotonic()
    answers(peer(server, tokens), reading)
    assert time.monotonic() - started >= 0.4


def test_after_the_last_attempt_the_error_quotes_the_server(serve, tokens, reading):
    server = serve(lambda body, n: (503, {}, {"error": "no workers"}))
    with pytest.raises(EvalError, match=r"answered 503 \(.*no workers.*\), 3 times"):
        answers(peer(server, tokens, tries=3), reading)
    assert len(server.requests) == 3


def test_a_refusal_is_not_repeated(serve, tokens, reading):
    server = serve(lambda body, n: (401, {}, {"error": "bad key"}))
    with pytest.raises(EvalError, match=r"answered 401: .*bad key.*is the key right\?"):
        answers(peer(server, tokens), reading)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [b"<html>hello</html>", b"[1]", {"object": "list"}, {"choices": []}, {"choices": [{"message": {"content": [1]}}]}],
    ids=["no JSON", "a list", "no choices", "empty choices", "content of parts"],
)
def test_a_wrong_answer_is_one_clear_error(serve, tokens, reading, answer):
    server = serve(lambda body, n: (200, {}, answer))
    with pytest.raises(EvalError, match=r"gave no chat completion: .*is it OpenAI-compatible"):
        answers(peer(server, tokens), reading)


def test_a_redirect_is_not_followed_with_the_key(serve, tokens, reading):
    other = serve(lambda body, n: (200, {}, completion("stolen")))
    server = serve(lambda body, n: (307, {"Location": other.url + "/chat/completions"}, b""))
    with pytest.raises(EvalError, match="answered 307"):
        answers(peer(server, tokens, api_key="secret"), reading)
    assert other.requests == []


def test_an_unreachable_server_is_an_error_with_the_address(tokens, reading):
    access = Access(url="http://127.0.0.1:9/v1", model="m", tries=2, wait_s=0.01, timeout_s=2)
    with pytest.raises(EvalError, match=r"127\.0\.0\.1:9/v1/chat/completions cannot be reached .*, 2 times"):
        answers(Endpoint(access, tokens), reading)


def test_a_server_that_does_not_answer_runs_into_the_timeout(serve, tokens, reading):
    server = serve(lambda body, n: (time.sleep(1.5), (200, {}, completion("late")))[1])
    with pytest.raises(EvalError, match="cannot be reached"):
        answers(peer(server, tokens, timeout_s=0.3, tries=1), reading)


def test_it_can_be_stopped_during_a_pause(serve, tokens, reading):
    server = serve(lambda body, n: (503, {"Retry-After": "60"}, b""))
    started = time.monotonic()
    assert answers(peer(server, tokens), reading, stop=lambda: bool(server.requests)) == []
    assert time.monotonic() - started < 5


def test_thinking_is_left_out_of_the_answer(serve, tokens, reading):
    server = serve(lambda body, n: (200, {}, completion("<think>\nhm 1\n</think>\n\n42")))
    assert answers(peer(server, tokens), reading)[0].text == "42"
    server = serve(lambda body, n: (200, {}, completion(None)))
    assert answers(peer(server, tokens), reading)[0].text == ""


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8000", "ftp://x/y", "http://", "http://u:p@host/v1"])
def test_an_address_is_checked_before_anything_is_sent(url):
    with pytest.raises(EvalError):
        Access(url=url, model="m")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(EvalError, match=r"no tokenizer\.json"):
        PeerTokens(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((resolve_model(EMBEDDED) / "tokenizer.json").read_bytes())
    with pytest.raises(EvalError, match="no chat template"):
        PeerTokens(tmp_path)


def test_a_template_that_refuses_a_system_message_is_an_error_with_its_reason(tmp_path, make):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((resolve_model(EMBEDDED) / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('System role not supported') }}")
    with pytest.raises(EvalError, match="refuses messages of system, user: System role not supported"):
        make(*task_named("qa_1"), counter=PeerTokens(tmp_path))


def test_a_peer_is_scored_by_the_same_code(serve, tokens, tmp_path):
    def find(body, n):
        """Answer every question of the needle tasks correctly."""
        text, _, question = body["messages"][1]["content"].rpartition("\n\n")
        wanted = question.removeprefix("What is the ").removesuffix("?")
        sentence = next(line for line in text.replace("\n", " ").split(".") if f"The {wanted} is" in line)
        return 200, {}, completion(sentence)

    server = serve(find)
    plan = EvalPlan(suite="ruler", tasks=("niah_single_2", "niah_multikey_1"), lengths=(2048,), samples=6)
    events = list(evaluate(peer(server, tokens), plan, tmp_path))
    assert [event.record["scores"]["score"] for event in events if isinstance(event, SampleDone)] == [1.0] * 12
    assert len(server.requests) == 12
    assert all(event.record["evidence"] is None for event in events if isinstance(event, SampleDone))
    assert {row.task: row.mean for row in events[-1].rows}["niah_multikey_1"] == 1.0

"""The evaluated model behind an OpenAI-compatible server, over the standard library's HTTP client."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message as Headers
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from sala_core.errors import EvalError
from sala_core.evals.peer_tokens import PeerTokens
from sala_core.evals.records import Question, Reading, Reply
from sala_core.events import PromptProgress
from sala_core.text.thinking import ThinkSplitter

_RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MAX_WAIT_S = 60.0
_SHOWN_CHARS = 300
_MAX_BYTES = 64 << 20


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the API key of one server must not reach another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Headers, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and credentials of a server. Raises EvalError for an address that cannot be one.

    url: with or without `/chat/completions`.
    api_key: None sends none.
    timeout_s: for one answer, prefill included.
    tries: attempts per request if the server is busy or cannot be reached.
    wait_s: pause before the second attempt, doubled before each later one.
    """

    url: str
    model: str
    api_key: str | None = None
    timeout_s: float = 600.0
    tries: int = 6
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EvalError(f"{self.url!r} is not the address of a server; give one such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise EvalError("the address contains a password; put the key into an environment variable instead")

    @property
    def address(self) -> str:
        """The URL of the requests."""
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


class Endpoint:
    """A peer model behind a server. It gets documents and question in one user message."""

    def __init__(self, access: Access, tokens: PeerTokens, *, max_tokens: int | None = None) -> None:
        """tokens: the peer's tokenizer. max_tokens: limit of every answer; None takes each task's own."""
        self.name, self.max_tokens = access.model, max_tokens
        self._access, self._tokens = access, tokens
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.count, self.first_tokens, self.text_tokens = tokens.count, tokens.first_tokens, tokens.text_tokens

    def identity(self) -> dict[str, str]:
        """The settings that name the model. Samples of other ones are not mixed with these."""
        return {"model": self.name, "endpoint": self._access.address, "tokenizer": self._tokens.digest}

    def answers(
        self, reading: Reading, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Reply]:
        """Send each question with the whole reading. Ends early once `should_stop` returns true. Raises EvalError."""
        for question in questions:
            if should_stop():
                return
            messages = self._tokens.messages(reading, question)
            body = {
                "model": self.name,
                "messages": messages,
                "temperature": 0,
                "max_tokens": self.max_tokens or question.max_tokens,
            }
            started = time.monotonic()
            answer = self._ask(body, should_stop)
            if answer is None:
                return
            yield self._reply(answer, messages, time.monotonic() - started)

    def _reply(self, answer: Mapping[str, Any], messages: list[dict[str, str]], seconds: float) -> Reply:
        try:
            choice = answer["choices"][0]
            content = choice["message"]["content"]
            reason = str(choice.get("finish_reason") or "")
            usage = answer.get("usage") or {}
            counts = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise self._malformed(json.dumps(answer)) from error
        if content is not None and not isinstance(content, str):
            raise self._malformed(json.dumps(answer))
        splitter = ThinkSplitter()
        pieces = [*splitter.push(content or ""), *splitter.flush()]
        return Reply(
            text="".join(piece.text for piece in pieces if not piece.thinking).strip(),
            reason=reason,
            prompt_tokens=counts["prompt_tokens"] or self._tokens.count_messages(messages),
            answer_tokens=counts["completion_tokens"],
            seconds=seconds,
            read_s=0.0,
        )

    def _ask(self, body: Mapping[str, Any], should_stop: Callable[[], bool]) -> Mapping[str, Any] | None:
        """The server's answer; None if `should_stop` returned true during a pause. Raises EvalError."""
        wait = self._access.wait_s
        for attempt in range(1, self._access.tries + 1):
            try:
                return self._send(body)
            except _Busy as busy:
                if attempt == self._access.tries:
                    raise EvalError(f"{self._access.address} {busy}, {attempt} times; try again later") from busy
                end = time.monotonic() + min(_MAX_WAIT_S, max(wait, busy.wait_s))
            while time.monotonic() < end:
                if should_stop():
                    return None
                time.sleep(min(0.1, max(0.0, end - time.monotonic())))
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _send(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._access.api_key:
            headers["Authorization"] = f"Bearer {self._access.api_key}"
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._access.address, data=data, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._access.timeout_s) as response:
                raw = response.read(_MAX_BYTES)
        except urllib.error.HTTPError as error:
            text = " ".join(error.read(1 << 16).decode("utf-8", "replace").split())[:_SHOWN_CHARS]
            if error.code in _RETRIED_STATUS:
                raise _Busy(f"answered {error.code} ({text})", _seconds(error.headers.get("Retry-After"))) from error
            hint = "; is the key right?" if error.code in (401, 403) else ""
            raise EvalError(f"{self._access.address} answered {error.code}: {text}{hint}") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Busy(f"cannot be reached ({reason})", 0.0) from error
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self._malformed(raw.decode("utf-8", "replace")) from error
        if not isinstance(answer, dict):
            raise self._malformed(raw.decode("utf-8", "replace"))
        return answer

    def _malformed(self, body: str) -> EvalError:
        shown = " ".join(body.split())[:_SHOWN_CHARS]
        return EvalError(f"{self._access.address} gave no chat completion: {shown!r}; is it OpenAI-compatible?")


class _Busy(Exception):
    """The request failed for now; another attempt may succeed. wait_s: the pause that the server asks for."""

    def __init__(self, what: str, wait_s: float) -> None:
        super().__init__(what)
        self.wait_s = wait_s


def _seconds(text: str | None) -> float:
    """Seconds of a Retry-After header; 0 if it is missing or a date."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0

"""`/v1/chat/completions`: one answer, whole or as a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from app.server.api.answering import Answering, Beat, Finished, Piece, Progress
from app.server.api.errors import ApiError, unsupported
from app.server.api.evidence import citations, sala_object
from app.server.api.fields import check_fields, flag, messages_of, read_object, sampling_of, text_field
from sala_core.errors import SalaError
from sala_core.session.served.conversation import Said, conversation, turns_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from sala_core.session.served.request import Request as Asked

BACKGROUND = "### Task:"
"""How Open WebUI begins its own requests for titles and tags. They leave no trace in a session."""
_STREAM_OPTIONS = ("include_usage", "include_obfuscation")
_DONE = "data: [DONE]\n\n"
_SSE = "text/event-stream"


async def chat(request: Request, serving: Answering) -> Response:
    """Answer a chat. Raises ApiError, SalaError."""
    raw = await read_object(request)
    check_fields(raw, ())
    options = raw.get("stream_options", {})
    if not isinstance(options, dict) or set(options) - set(_STREAM_OPTIONS):
        raise unsupported("stream_options", f"only {', '.join(_STREAM_OPTIONS)} are known here")
    model, messages = text_field(raw, "model"), messages_of(raw.get("messages"))
    await serving.wait_until_ready()
    start = starter(serving, model, messages)
    sampling = sampling_of(raw)
    reply = _Reply(model, include_usage=bool(options.get("include_usage")), progress=flag(raw, "return_progress"))
    if not flag(raw, "stream"):
        events = serving.events(sampling, start, request.is_disconnected)
        return await whole(events, reply.whole)
    return await streamed(serving.events(sampling, start), reply)


def starter(serving: Answering, model: str, messages: list[Said]) -> Callable[[Asked], None]:
    """What gives a conversation to the desk. Raises ApiError for an unknown model, ConversationError."""
    session = serving.session(model)
    if session is None:
        sent = conversation(messages, finds=serving.finds)
        return lambda asked: serving.desk.answer(sent, asked)
    system, turns, question = turns_of(messages)
    if question.lstrip().startswith(BACKGROUND):
        return lambda asked: serving.desk.ask_aside(session, question, asked)
    if system and not serving.finds:  # a session's own system message was read before its texts
        if turns:
            turns = (type(turns[0])(question=f"{system}\n\n{turns[0].question}", answer=turns[0].answer), *turns[1:])
        else:
            question = f"{system}\n\n{question}"
    return lambda asked: serving.desk.ask_session(session, turns, question, asked)


async def whole(events: AsyncIterator[Any], body: Callable[[str, str, Finished], dict[str, Any]]) -> Response:
    """One JSON response. body: makes it of the text, the thinking and the end."""
    thinking, finished = "", None
    async with aclosing(events) as following:  # type: ignore[type-var]
        async for event in following:
            if isinstance(event, Piece) and event.is_thinking:
                thinking += event.text
            elif isinstance(event, Finished):
                finished = event
    if finished is None:
        return Response(status_code=499)  # the client has gone
    return JSONResponse(body(finished.answer.text, thinking, finished))


async def streamed(events: AsyncIterator[Any], reply: Any) -> Response:
    """A stream of events. What fails before the first of them is an ordinary response."""
    first = await anext(events, None)

    async def lines() -> AsyncIterator[str]:
        try:
            async with aclosing(events) as following:  # type: ignore[type-var]
                for line in reply.lines(first):
                    yield line
                async for event in following:
                    for line in reply.lines(event):
                        yield line
        except (SalaError, ApiError) as error:
            yield reply.failed(ApiError.of(error))
        yield reply.done

    return StreamingResponse(lines(), media_type=_SSE, headers={"x-accel-buffering": "no"})


def usage(finished: Finished) -> dict[str, Any]:
    """The tokens of an answer, as chats and completions tell them."""
    answer = finished.answer
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": answer.tokens_generated,
        "total_tokens": finished.prompt_tokens + answer.tokens_generated,
        "prompt_tokens_details": {"cached_tokens": finished.tokens_cached},
        "completion_tokens_details": {"reasoning_tokens": answer.tokens_thinking},
    }


def event_line(body: dict[str, Any], name: str = "") -> str:
    """One event of a stream. name: of the event, where it has one."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def beat_line(event: Beat | Progress) -> str:
    """A comment, which clients pass over, and which keeps the connection."""
    if isinstance(event, Progress):
        return f": reading {event.tokens_done} of {event.tokens_total} tokens\n\n"
    return ": working\n\n"


class _Reply:
    """The form of one chat's answer."""

    done = _DONE

    def __init__(self, model: str, *, include_usage: bool, progress: bool) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._include_usage, self._shows_progress = include_usage, progress
        self._has_begun = False
        self._beat_at = 0.0

    def whole(self, text: str, thinking: str, finished: Finished) -> dict[str, Any]:
        """The body of a response that is no stream."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": citations(finished.answer),
        }
        if thinking:
            message["reasoning_content"] = thinking
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.finish_reason}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage(finished),
            "sala": sala_object(finished),
        }

    def lines(self, event: Any) -> list[str]:
        """The lines of one event."""
        lines = [] if self._has_begun else [self._chunk({"role": "assistant", "content": ""})]
        self._has_begun = True
        if isinstance(event, Progress) and self._shows_progress:
            lines.append(self._chunk({}, prompt_progress=progress_object(event)))
        elif isinstance(event, Beat | Progress):
            lines += self._beat(event)
        elif isinstance(event, Piece):
            lines.append(self._chunk({"reasoning_content" if event.is_thinking else "content": event.text}))
        elif isinstance(event, Finished):
            lines.append(
                self._chunk(
                    {"annotations": citations(event.answer)},
                    finish_reason=event.finish_reason,
                    sala=sala_object(event),
                )
            )
            if self._include_usage:
                lines.append(event_line({**self._line_head(), "choices": [], "usage": usage(event)}))
        return lines

    def failed(self, error: ApiError) -> str:
        """The event of an error after the beginning."""
        return event_line(error.to_json())

    def _beat(self, event: Beat | Progress) -> list[str]:
        """A comment every few seconds."""
        if time.monotonic() - self._beat_at < 2.0:
            return []
        self._beat_at = time.monotonic()
        return [beat_line(event)]

    def _line_head(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        missing_usage = {"usage": None} if self._include_usage else {}
        return event_line({**self._line_head(), "choices": [choice], **missing_usage, **more})


def progress_object(event: Progress) -> dict[str, int]:
    """The progress of reading a prompt, as llama.cpp's server tells it."""
    return {
        "total": event.tokens_total,
        "cache": event.tokens_cached,
        "processed": event.tokens_done,
        "time_ms": int(event.seconds * 1000),
    }

"""`/v1/completions`: a text that goes on, without roles."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from app.server.api.answering import Answering, Beat, Finished, Piece, Progress
from app.server.api.chat import beat_line, event_line, progress_object, streamed, usage, whole
from app.server.api.errors import ApiError, unsupported
from app.server.api.evidence import sala_object
from app.server.api.fields import check_fields, flag, read_object, sampling_of
from sala_core.session.served.conversation import Said, clean, conversation, raw_text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sala_core.session.served.request import Request as Asked


async def complete(request: Request, serving: Answering) -> Response:
    """Go on with a text. A model that only finds answers the question at its end. Raises ApiError, SalaError."""
    raw = await read_object(request)
    check_fields(raw, ("prompt",))
    prompt = _prompt(raw.get("prompt"))
    model = raw.get("model")
    await serving.wait_until_ready()
    if not isinstance(model, str):
        raise ApiError("model: a text is expected", param="model")
    if serving.session(model) is not None:
        raise ApiError("a session is asked in a chat; /v1/completions takes the model's own id", param="model")
    sent = conversation([Said(role="user", text=prompt)], finds=True) if serving.finds else raw_text(prompt)

    def start(asked: Asked) -> None:
        serving.desk.answer(sent, asked)

    sampling = sampling_of(raw)
    options = raw.get("stream_options") or {}
    reply = _Reply(model, include_usage=bool(options.get("include_usage")), progress=flag(raw, "return_progress"))
    if not flag(raw, "stream"):
        return await whole(serving.events(sampling, start, request.is_disconnected), reply.whole)
    return await streamed(serving.events(sampling, start), reply)


def _prompt(value: object) -> str:
    """The one text of a request. Raises ApiError."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if not isinstance(value, str):
        raise unsupported("prompt", "one text is expected; token ids and several prompts are not supported here")
    if not value.strip():
        raise ApiError("prompt: the text is empty", param="prompt")
    return clean(value)


class _Reply:
    """The form of one completion."""

    done = "data: [DONE]\n\n"

    def __init__(self, model: str, *, include_usage: bool, progress: bool) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._include_usage, self._shows_progress = include_usage, progress

    def whole(self, text: str, thinking: str, finished: Finished) -> dict[str, Any]:
        """The body of a response that is no stream."""
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finished.finish_reason}
        return {**self._head, "choices": [choice], "usage": usage(finished), "sala": sala_object(finished)}

    def lines(self, event: Any) -> list[str]:
        """The lines of one event."""
        if isinstance(event, Progress) and self._shows_progress:
            return [self._chunk("", prompt_progress=progress_object(event))]
        if isinstance(event, Beat | Progress):
            return [beat_line(event)]
        if isinstance(event, Piece):
            return [] if event.is_thinking else [self._chunk(event.text)]
        if not isinstance(event, Finished):
            return []
        lines = [self._chunk("", finish_reason=event.finish_reason, sala=sala_object(event))]
        if self._include_usage:
            lines.append(event_line({**self._head, "choices": [], "usage": usage(event)}))
        return lines

    def failed(self, error: ApiError) -> str:
        """The event of an error after the beginning."""
        return event_line(error.to_json())

    def _chunk(self, text: str, finish_reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return event_line({**self._head, "choices": [choice], **more})

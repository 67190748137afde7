"""The form of a response of `/v1/responses`: as one object, and as a stream of events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from app.server.api.answering import Beat, Finished, Piece, Progress
from app.server.api.chat import beat_line, event_line, progress_object
from app.server.api.evidence import citations, sala_object

if TYPE_CHECKING:
    from app.server.api.errors import ApiError
    from sala_core.store import MessageRow

_ECHOED = ("instructions", "max_output_tokens", "metadata", "previous_response_id", "temperature", "top_p", "user")


class ResponseForm:
    """One response."""

    done = ""

    def __init__(self, response_id: str, raw: Mapping[str, Any], finds: bool, is_stored: bool) -> None:
        """Begin a response.

        Args:
            response_id: its id.
            raw: the request.
            finds: whether the model only finds.
            is_stored: whether a later request can go on from it.
        """
        self.id = response_id
        self.on_finished: Callable[[Finished], None] = lambda finished: None
        """Called with the end, before it is told."""
        self._item_id = response_id.replace("resp_", "msg_")
        self._model = raw.get("model", "")
        self._shows_progress = raw.get("return_progress") is True
        self._head = {
            "id": response_id,
            "object": "response",
            "created_at": int(time.time()),
            "model": self._model,
            "error": None,
            "incomplete_details": None,
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": raw.get("tools", []),
            "store": is_stored,
            "text": {"format": {"type": "text"}},
            "truncation": "disabled",
            **{name: raw.get(name) for name in _ECHOED},
        }
        self._number = 0
        self._text = self._thinking = ""
        self._has_begun = False

    def whole(self, text: str, thinking: str, finished: Finished) -> dict[str, Any]:
        """The body of a response that is no stream."""
        self.on_finished(finished)
        self._thinking = thinking
        return self._complete(finished)

    def lines(self, event: Any) -> list[str]:
        """The lines of one event."""
        lines = []
        if not self._has_begun:
            self._has_begun = True
            lines += self._begin()
        if isinstance(event, Progress) and self._shows_progress:
            lines.append(
                self._event("response.in_progress", response=self._open(), prompt_progress=progress_object(event))
            )
        elif isinstance(event, Beat | Progress):
            lines.append(beat_line(event))
        elif isinstance(event, Piece) and event.is_thinking:
            self._thinking += event.text
        elif isinstance(event, Piece):
            self._text += event.text
            lines.append(self._part_event("response.output_text.delta", delta=event.text, logprobs=[]))
        elif isinstance(event, Finished):
            self.on_finished(event)
            lines += self._end(event)
        return lines

    def failed(self, error: ApiError) -> str:
        """The event of an error after the beginning."""
        body = {"code": error.code or error.kind, "message": str(error)}
        return self._event("response.failed", response={**self._open(), "status": "failed", "error": body})

    def _begin(self) -> list[str]:
        item = {"id": self._item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("response.created", response=self._open()),
            self._event("response.in_progress", response=self._open()),
            self._event("response.output_item.added", output_index=0, item=item),
            self._part_event("response.content_part.added", part=part),
        ]

    def _end(self, finished: Finished) -> list[str]:
        body = self._complete(finished)
        item = body["output"][-1]
        (part,) = item["content"]
        lines = [
            self._part_event("response.output_text.annotation.added", annotation_index=index, annotation=annotation)
            for index, annotation in enumerate(part["annotations"])
        ]
        return [
            *lines,
            self._part_event("response.output_text.done", text=part["text"], logprobs=[]),
            self._part_event("response.content_part.done", part=part),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{body['status']}", response=body),
        ]

    def _open(self) -> dict[str, Any]:
        return {**self._head, "status": "in_progress", "output": [], "usage": None}

    def _complete(self, finished: Finished) -> dict[str, Any]:
        answer, is_cut = finished.answer, finished.finish_reason == "length"
        part = {"type": "output_text", "text": answer.text, "annotations": citations(answer), "logprobs": []}
        item = {"id": self._item_id, "type": "message", "role": "assistant", "content": [part]}
        output = [{**item, "status": "incomplete" if is_cut else "completed"}]
        if self._thinking:
            thought = {"type": "reasoning_text", "text": self._thinking}
            reasoning = {"id": self._item_id.replace("msg_", "rs_"), "type": "reasoning", "summary": []}
            output.insert(0, {**reasoning, "content": [thought], "status": "completed"})
        return {
            **self._head,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": output,
            "usage": {
                "input_tokens": finished.prompt_tokens,
                "input_tokens_details": {
                    "cached_tokens": finished.tokens_cached,
                    "cache_write_tokens": finished.prompt_tokens - finished.tokens_cached,
                },
                "output_tokens": answer.tokens_generated,
                "output_tokens_details": {"reasoning_tokens": answer.tokens_thinking},
                "total_tokens": finished.prompt_tokens + answer.tokens_generated,
            },
            "sala": sala_object(finished),
        }

    def _part_event(self, name: str, **fields: Any) -> str:
        return self._event(name, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _event(self, name: str, **fields: Any) -> str:
        self._number += 1
        return event_line({"type": name, "sequence_number": self._number - 1, **fields}, name)


def stored_form(response_id: str, message: MessageRow) -> dict[str, Any]:
    """A response that was given earlier, from the stored message of its answer."""
    stats = message.stats
    part = {"type": "output_text", "text": message.text, "annotations": [], "logprobs": []}
    item = {"id": response_id.replace("resp_", "msg_"), "type": "message", "role": "assistant"}
    prompt = (stats.tokens_reused + stats.tokens_read) if stats else 0
    generated = (stats.tokens_generated or 0) if stats else 0
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(message.created_at),
        "model": stats.model if stats else "",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": None,
        "parallel_tool_calls": False,
        "temperature": None,
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "output": [{**item, "content": [part], "status": "completed"}],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": stats.tokens_reused if stats else 0, "cache_write_tokens": 0},
            "output_tokens": generated,
            "output_tokens_details": {"reasoning_tokens": stats.tokens_thinking if stats else 0},
            "total_tokens": prompt + generated,
        },
    }

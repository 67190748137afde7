"""Any server with an OpenAI-compatible API as the writer of a session's answers."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sala_core.errors import EngineContextError, EngineUnreachableError
from sala_core.events import PromptProgress
from sala_core.remote.chat_stream import ChatStream
from sala_core.remote.choice import EngineChoice
from sala_core.remote.counting import TokenCounter
from sala_core.remote.describe import chosen, probed_context
from sala_core.remote.engine import (
    EngineAnswer,
    EngineEvent,
    EngineInfo,
    EngineKind,
    EngineSettings,
    SessionText,
    Written,
)
from sala_core.remote.plan import Plan, plan
from sala_core.remote.server import Patience, Server
from sala_core.written_by import WrittenBy

PATH = "/v1/chat/completions"
_SLOWEST_TOKENS_PER_S = 30.0
"""Prefill of a 7B model on a slow CPU: what a server is given before its own speed is known."""

_LOADING_S = 240.0
"""Ollama and LM Studio load a model at its first question."""

_LONGEST_S = 8 * 3600.0
_PATIENCE = 5.0
TEMPERATURE = 0.2
"""Where the user has set none: answers from a text want no invention. Hosted models have their own rules."""

_TAKES_TEMPLATE_ARGUMENTS: tuple[EngineKind, ...] = ("vllm", "sglang", "llama.cpp")
_COSTLY_TOKENS = 2048
_CUT_SHARE = 0.7


class ChatEngine:
    """A `RemoteEngine` for servers that keep nothing of a session but what their own cache of prefixes holds."""

    def __init__(self, choice: EngineChoice) -> None:
        self._choice = choice
        self.server = Server(choice.access)
        self._info: EngineInfo | None = None
        self._counter: TokenCounter | None = None
        self._limits: dict[str, int | None] = {}
        """Contexts that were learned from refusals, by model."""
        self._rate = _SLOWEST_TOKENS_PER_S
        self._served = ""

    def connect(self) -> EngineInfo:
        """Ask the server what it serves: `RemoteEngine.connect`."""
        info = chosen(self.server, self._choice.model)
        if info.kind == "llama-cpp-python" and info.model not in self._limits:
            self._limits[info.model] = None if self._choice.context_tokens else probed_context(self.server, info.model)
        limits = [info.context_tokens, self._limits.get(info.model), self._choice.context_tokens]
        known = [limit for limit in limits if limit]
        info = replace(info, context_tokens=min(known) if known else None)
        if self._info is None or (self._info.kind, self._info.model) != (info.kind, info.model):
            self._counter = TokenCounter(self.server, info)
        self._info = info
        return info

    def note_before(self, session: SessionText) -> str:
        """What the next question costs where the text is read again for every one."""
        info = self.connect()
        past = _text_turns(session, info.name)
        is_stateless = info.keeps_state is False or bool(past and past[-1].tokens_reused == 0)
        num_tokens = sum(document.num_tokens for document in session.documents)
        fits = num_tokens <= (info.context_tokens or 0)
        if self._choice.sends == "passages" or not is_stateless or not fits or num_tokens < _COSTLY_TOKENS:
            return ""
        return (
            f"{info.name} keeps nothing between questions: about {num_tokens:,} tokens are sent and read again for "
            "each of them. “Passages only” (--engine-sends passages) sends the places that the reader here finds."
        )

    def ask(
        self, session: SessionText, question: str, settings: EngineSettings, *, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        """Answer a question: `RemoteEngine.ask`.

        A request that the server refuses as too long, before it has read any of it, is made anew within the limit that
        the refusal names, once.

        Args:
            session, question, settings, should_stop: as there.
        """
        info = self.connect()
        made = self._plan(session, question, settings, info)
        yield PromptProgress(tokens_done=0, tokens_total=made.prompt_tokens, reader=info.name)
        answering = _Answering(self, info, made, settings)
        try:
            yield from answering.run(session, should_stop)
        except EngineContextError as error:
            is_told = error.context_tokens is not None and error.context_tokens < (info.context_tokens or 1 << 40)
            if answering.has_begun or self._choice.sends == "text" or not is_told:
                raise
            self._limits[info.model] = error.context_tokens
            info = replace(info, context_tokens=error.context_tokens)
            made = self._plan(session, question, settings, info)
            yield PromptProgress(tokens_done=0, tokens_total=made.prompt_tokens, reader=info.name)
            yield from _Answering(self, info, made, settings).run(session, should_stop)

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def patience(self, num_tokens: int) -> Patience:
        """How long the server may be silent over a prompt, by the speed that it has shown."""
        return Patience(first_s=min(_LONGEST_S, _LOADING_S + num_tokens / self._rate))

    def learn(self, made: Plan, stream: ChatStream, seconds: float) -> list[str]:
        """Take in what an answer has shown: the speed, the size of tokens, the model's name. Returns warnings.

        Args:
            made: what was asked.
            stream: the answer.
            seconds: until its first word.
        """
        assert self._info is not None
        assert self._counter is not None
        usage, warnings = stream.usage, []
        if usage.prompt:
            fresh = usage.prompt - (usage.cached or 0)
            self.learn_speed(fresh, seconds)
            if usage.prompt < made.prompt_tokens * _CUT_SHARE / (1 if self._counter.is_exact else 2):
                warnings.append(
                    f"{self._info.name} has read {usage.prompt:,} tokens of about {made.prompt_tokens:,} that were "
                    "sent: its server cuts what is too long without a word. Set its context there (Ollama: "
                    "OLLAMA_CONTEXT_LENGTH), or tell it by --engine-context."
                )
            elif not self._counter.is_exact:
                self._counter.learn(made.text, usage.prompt)
        if stream.served:
            if self._served and stream.served[-1] != self._served:
                warnings.append(f"The server answered with {stream.served[-1]!r}; before it was {self._served!r}.")
            self._served = stream.served[-1]
        return warnings

    def learn_speed(self, num_tokens: int, seconds: float) -> None:
        """Take in how long the server has read tokens that it did not have."""
        if num_tokens >= _COSTLY_TOKENS and seconds > 0:
            self._rate = max(_SLOWEST_TOKENS_PER_S / _PATIENCE, num_tokens / seconds / _PATIENCE)

    def _plan(self, session: SessionText, question: str, settings: EngineSettings, info: EngineInfo) -> Plan:
        assert self._counter is not None
        return plan(
            session,
            question,
            settings,
            self._counter,
            context_tokens=info.context_tokens,
            sends=self._choice.sends,
        )

    def body(self, made: Plan, settings: EngineSettings, info: EngineInfo) -> dict[str, Any]:
        """The request's JSON. The messages come first: what changes from question to question is at the end."""
        is_openai = (urlsplit(info.url).hostname or "").endswith("openai.com")
        body: dict[str, Any] = {
            "model": info.model,
            "messages": [{"role": message.role, "content": message.content} for message in made.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens" if is_openai else "max_tokens": made.max_tokens,
        }
        temperature = settings.temperature
        if temperature is None and info.kind != "openai":
            temperature = TEMPERATURE
        chosen_values = {"temperature": temperature, "top_p": settings.top_p, "seed": settings.seed}
        body |= {name: value for name, value in chosen_values.items() if value is not None}
        if settings.think is not None and info.kind in _TAKES_TEMPLATE_ARGUMENTS:
            body["chat_template_kwargs"] = {"enable_thinking": settings.think}
        if info.kind == "llama.cpp":
            body["return_progress"] = True
        return body


class _Answering:
    """One request and its answer."""

    def __init__(self, engine: ChatEngine, info: EngineInfo, made: Plan, settings: EngineSettings) -> None:
        self._engine, self._info, self._plan, self._settings = engine, info, made, settings
        self.has_begun = False
        self._address = engine.server.access.address

    def run(self, session: SessionText, should_stop: Callable[[], bool]) -> Iterator[EngineEvent]:
        engine, info, made = self._engine, self._info, self._plan
        stream = ChatStream(self._address, info.name)
        started = time.monotonic()
        first: float | None = None
        warnings = self._ignored_settings()
        lines = engine.server.lines(
            PATH,
            engine.body(made, self._settings, info),
            model=info.model,
            patience=engine.patience(made.prompt_tokens),
            should_stop=should_stop,
        )
        was_stopped = False
        try:
            for event in stream.read(lines):
                if isinstance(event, Written):
                    first, self.has_begun = first or time.monotonic(), True
                yield event
        except EngineUnreachableError as error:
            if should_stop():
                was_stopped = True
            elif not self.has_begun:
                raise
            else:
                was_stopped = True
                warnings.append(f"The answer ends here: {error}. “Regenerate” asks for a whole one.")
        if was_stopped and not self.has_begun:
            return
        ended = time.monotonic()
        seconds = (first or ended) - started
        if not was_stopped:
            warnings += engine.learn(made, stream, seconds) + self._cost_note(session, stream)
        yield EngineAnswer(
            finish_reason="stopped" if was_stopped else stream.reason,
            written_by=self._written_by(stream),
            passages=made.passages,
            tokens_generated=stream.usage.written or 0,
            seconds_prefill=seconds,
            seconds_decode=ended - (first or ended),
            warnings=tuple(warnings),
        )

    def _written_by(self, stream: ChatStream) -> WrittenBy:
        prompt, reused = stream.usage.prompt, self._reused(stream)
        return WrittenBy(
            engine=self._info.name,
            address=self._address,
            basis=self._plan.basis,
            passages=len(self._plan.passages),
            tokens_again=None if prompt is None else max(0, prompt - (reused or 0)),
            tokens_reused=reused,
            turns_left_out=self._plan.turns_left_out,
        )

    def _reused(self, stream: ChatStream) -> int | None:
        """Tokens of the prompt that were not read again. A server without a cache of prefixes tells none."""
        if stream.usage.cached is None and self._info.keeps_state is False and stream.usage.prompt is not None:
            return 0
        return stream.usage.cached

    def _cost_note(self, session: SessionText, stream: ChatStream) -> list[str]:
        """Said once, at the second question on the whole text, if the server has reused none of it."""
        past = _text_turns(session, self._info.name)
        prompt = stream.usage.prompt or 0
        if self._plan.basis != "text" or len(past) != 1 or self._reused(stream) != 0 or prompt < _COSTLY_TOKENS:
            return []
        return [
            f"{self._info.name} has kept nothing of the text between two questions: it read {prompt:,} tokens again. "
            "Each further question costs the same there; “Passages only” is cheaper."
        ]

    def _ignored_settings(self) -> list[str]:
        if self._settings.think is None or self._info.kind in _TAKES_TEMPLATE_ARGUMENTS:
            return []
        return [f"{self._address} has no setting for thinking that this program knows: {self._info.name} decided."]


def _text_turns(session: SessionText, model: str) -> list[WrittenBy]:
    """The earlier answers of this model from the whole text."""
    past: list[WrittenBy] = [turn.written_by for turn in session.turns if turn.written_by is not None]
    return [each for each in past if each.basis == "text" and each.engine == model]


def describe_settings(raw: Mapping[str, Any]) -> EngineSettings:
    """The settings among those of an answer that an engine elsewhere can follow; the others are this program's own."""
    names = ("temperature", "top_p", "max_tokens", "seed", "think", "thinking_budget", "verbatim")
    return EngineSettings(**{name: raw[name] for name in names if raw.get(name) is not None})

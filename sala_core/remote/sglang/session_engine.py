"""SGLang with `--enable-streaming-session` as the writer: one server session for each of ours, append only.

The released server keeps a streaming session in its memory until it is closed, timed out or started again. Turns are
appended by `POST /generate` with `session_params`; a request that is cut off leaves the session as it was before. A
server that has forgotten a session, or holds something else than was appended, is given the whole text again.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from sala_core.errors import EngineFailedError, EngineUnreachableError
from sala_core.events import PromptProgress
from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice
from sala_core.remote.engine import EngineEvent, EngineInfo, EngineSettings, SessionText
from sala_core.remote.plan import Plan
from sala_core.remote.sglang.appended import KnownSessions, ServerSession, beginning, pieces_of
from sala_core.remote.sglang.appending import Appending
from sala_core.remote.sglang.native import NativeApi

_PAGE_CHARS = 3000
_KEPT_SHARE = 0.9
_SPEAKS_CHATML = ("minicpm", "sala")


class SessionEngine(ChatEngine):
    """A `RemoteEngine`. Where the server's sessions keep nothing, or the text does not fit, it is a ChatEngine."""

    def __init__(self, choice: EngineChoice, library: Path) -> None:
        """choice: the engine. library: folder of the library, where the server's sessions are noted."""
        super().__init__(choice)
        self._known = KnownSessions(library)
        self._keeps: bool | None = None

    @cached_property
    def api(self) -> NativeApi:
        """The server's own calls."""
        return NativeApi(self.server)

    def connect(self) -> EngineInfo:
        """Ask the server what it serves: `RemoteEngine.connect`."""
        info = super().connect()
        if not info.has_sessions or not any(name in info.model.lower() for name in _SPEAKS_CHATML):
            self._keeps = False
        return info if self._keeps is False else replace(info, keeps_state=self._keeps)

    def note_before(self, session: SessionText) -> str:
        """What the next question costs beside its own tokens: `RemoteEngine.note_before`."""
        info = self.connect()
        if not self._is_kept(session):
            return super().note_before(session)
        if self._matching(session, info) is not None:
            return ""
        tokens = sum(document.num_tokens for document in session.documents)
        return f"{info.name} reads the whole text now, about {tokens:,} tokens; then it keeps it for later questions."

    def ask(
        self, session: SessionText, question: str, settings: EngineSettings, *, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        """Answer a question: `RemoteEngine.ask`.

        Args:
            session, question, settings, should_stop: as there.
        """
        info = self.connect()
        made = self._plan(session, question, settings, info)
        if made.basis != "text" or made.turns_left_out or not self._is_kept(session):
            yield from super().ask(session, question, settings, should_stop=should_stop)
            return
        assert self._counter is not None
        held, notes = self._matching(session, info), list[str]()
        for is_anew in (False, True):
            if held is None:
                yield PromptProgress(tokens_done=0, tokens_total=made.prompt_tokens, reader=info.name)
                held = self._begun(session, info, made, should_stop)
            if held is None:
                return  # stopped
            appending = Appending(self.api, session, question, settings, made, held, info, notes)
            own = self._counter.count(appending.text)
            outcome = yield from appending.run(own, self.patience(own), should_stop)
            if appending.held_after is not None:
                self._known.put(_key(session, info), appending.held_after)
            if outcome == "done":
                return
            self._forget(session, info)
            held = None
            notes = [f"{info.name} had forgotten the text and has read it again: {made.prompt_tokens:,} tokens."]
            if is_anew:
                raise EngineFailedError(
                    f"{self.server.access.address} does not keep the session that it has just opened; look at its log, "
                    "or have it asked with passages (--engine-sends passages)"
                )

    def _is_kept(self, session: SessionText) -> bool:
        """Whether the server's sessions keep what they have read: asked once, with one page."""
        if self._keeps is None:
            self._keeps = self._probe(session)
        return self._keeps

    def _probe(self, session: SessionText) -> bool:
        """Append a page to a session of its own, and then a few words: those must cost their own tokens alone."""
        assert self._info is not None
        page = next((text for document in session.documents if (text := document.text()[:_PAGE_CHARS])), "")
        name = self.api.open_session(len(page) * 2) if page else None
        if name is None:
            return False
        first, second = (self.api.append(self._info, name, text) for text in (page, "\nThat was one page."))
        self.api.close_session(name)
        return first is not None and second is not None and second.cached_tokens >= _KEPT_SHARE * first.prompt_tokens

    def _begun(
        self, session: SessionText, info: EngineInfo, made: Plan, should_stop: Callable[[], bool]
    ) -> ServerSession | None:
        """A new session of the server that has read all documents; None where it was stopped.

        Args:
            session: the documents.
            info: the engine.
            made: what fits.
            should_stop: ends the waiting; the server then forgets what it has read so far.

        Raises EngineError.
        """
        text = beginning(session)
        name = self.api.open_session(len(text) * 2)
        if name is None:
            raise EngineFailedError(f"{self.server.access.address} opens no session any more; look at its log")
        started = time.monotonic()
        try:
            got = self.api.read(info, name, text, self.patience(made.prompt_tokens), should_stop)
        except EngineUnreachableError:
            self.api.close_session(name)
            if should_stop():
                return None
            raise
        if got.reason == "abort":
            raise EngineFailedError(f"{self.server.access.address} did not read the text: {got.message}")
        self.learn_speed(got.prompt_tokens, time.monotonic() - started)
        held = ServerSession(id=name, pieces=pieces_of(session)[:1], tokens=got.prompt_tokens)
        self._known.put(_key(session, info), held)
        return held

    def _forget(self, session: SessionText, info: EngineInfo) -> None:
        key = _key(session, info)
        if (held := self._known.get(key)) is not None:
            self._known.put(key, None)
            self.api.close_session(held.id)

    def _matching(self, session: SessionText, info: EngineInfo) -> ServerSession | None:
        """The server's session that holds the beginning of ours; None where there is none, or it holds something else,
        as after a change of the documents or another version of a turn."""
        held = self._known.get(_key(session, info))
        if held is None:
            return None
        if held.pieces and pieces_of(session)[: len(held.pieces)] == held.pieces:
            return held
        self._forget(session, info)
        return None


def _key(session: SessionText, info: EngineInfo) -> str:
    return f"{info.url} {info.model} {session.session_id}"

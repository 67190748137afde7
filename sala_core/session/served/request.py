"""One request of another program: what it wants, and where its events go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of the events of a request.

    session_id: where the answer is kept. error: why there is none. tokens_read: what the model has read because of this
    request before the question's own turn. is_kept: whether the turn is in the session.
    """

    session_id: str
    error: Exception | None = None
    tokens_read: int = 0
    is_kept: bool = True


@dataclass(kw_only=True)
class Request:
    """A request under way.

    tell: receives its events, the last of which is a Done; called from other threads. sampling: fields of
    SamplingParams that replace the model's own. session_id: where it is asked, once that is known. has_left: the client
    has gone. tokens_read, is_kept: as in Done. job_id: of the question, once it is queued.
    """

    tell: Callable[[Any], None]
    sampling: dict[str, Any] = field(default_factory=dict)
    session_id: str = ""
    has_left: bool = False
    tokens_read: int = 0
    is_kept: bool = True
    job_id: str = ""

    def end(self, error: Exception | None = None) -> None:
        """Report the end."""
        self.tell(Done(session_id=self.session_id, error=error, tokens_read=self.tokens_read, is_kept=self.is_kept))

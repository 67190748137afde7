"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from sala_core.errors import (
    ConversationError,
    DiskFullError,
    IngestError,
    LibraryError,
    MemoryBudgetError,
    ModelError,
    SalaError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    SettingsError,
)

_INVALID = "invalid_request_error"
_KINDS: tuple[tuple[type[SalaError], int, str, str | None], ...] = (
    (MemoryBudgetError, 400, _INVALID, "context_length_exceeded"),
    (SessionNotFoundError, 404, _INVALID, "model_not_found"),
    (SessionExistsError, 400, _INVALID, "name_taken"),
    (SessionBusyError, 429, "rate_limit_error", "too_many_questions"),
    (DiskFullError, 507, "server_error", "disk_full"),
    (ConversationError, 400, _INVALID, None),
    (SettingsError, 400, _INVALID, None),
    (IngestError, 400, _INVALID, None),
    (ModelError, 503, "server_error", "model_not_loaded"),
    (LibraryError, 400, _INVALID, None),
)
"""The first that fits counts: error of the program, status, type, code."""


class ApiError(Exception):
    """A request cannot be served. Becomes a response, or an event of a stream that has begun."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = _INVALID,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        """Describe the error.

        Args:
            message: for the user.
            status: of the response.
            kind: the error's type, in OpenAI's words.
            code: OpenAI's code for it, if there is one.
            param: the field of the request that is wrong.
        """
        super().__init__(message)
        self.status, self.kind, self.code, self.param = status, kind, code, param

    @classmethod
    def of(cls, error: BaseException) -> ApiError:
        """The error for one of the program, or for one that nobody expected."""
        if isinstance(error, ApiError):
            return error
        for each, status, kind, code in _KINDS:
            if isinstance(error, each):
                return cls(str(error), status=status, kind=kind, code=code)
        if isinstance(error, SalaError):
            return cls(str(error), status=500, kind="server_error")
        return cls(
            f"something unexpected went wrong ({type(error).__name__}); the program's log tells more",
            status=500,
            kind="server_error",
        )

    def to_json(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The response."""
        return JSONResponse(self.to_json(), status_code=self.status)


def unsupported(param: str, what: str) -> ApiError:
    """The error for something that this server does not do. param: the field. what: the rest of the sentence."""
    return ApiError(f"{param}: {what}", code="unsupported_parameter", param=param)

"""The exception tree of the program. All subclasses of SalaError are defined here::

    SalaError
    ├── ModelError
    │   ├── ConfigError
    │   ├── CheckpointError
    │   ├── TokenizerError
    │   ├── DeviceError
    │   ├── DownloadError
    │   │   ├── HubNotFoundError
    │   │   ├── HubAccessError
    │   │   ├── HubConnectionError
    │   │   ├── DownloadSpaceError
    │   │   └── DamagedDownloadError
    │   ├── QuantizeError
    │   └── TrainError
    ├── MemoryBudgetError
    ├── IngestError
    │   ├── FetchError
    │   └── UnreadableError
    │       └── PasswordError
    ├── StateError
    │   ├── StateMismatchError
    │   └── CorruptStateError
    ├── LibraryError
    │   ├── LibraryDamagedError
    │   ├── SessionNotFoundError
    │   ├── SessionExistsError
    │   ├── SessionBusyError
    │   ├── ArchiveError
    │   └── DiskFullError
    ├── EngineError
    │   ├── EngineUnreachableError
    │   ├── EngineRefusedError
    │   │   ├── EngineContextError
    │   │   └── EngineChangedError
    │   └── EngineFailedError
    │       └── EngineGoneError
    ├── EvalError
    ├── BenchError
    ├── KernelReportError
    ├── DoctorError
    ├── SettingsError
    ├── QuestionListError
    ├── ConversationError
    └── UploadError
        ├── UploadGoneError
        │   └── DocumentsMissingError
        ├── UploadOffsetError
        └── PlanGoneError

A message says what failed, shows the value that caused it, and gives the next step.

Two kinds of exceptions are outside the tree. `app.setup.environment.SetupError` is raised before the environment
exists, so it cannot depend on this package. Exceptions that only steer the control flow inside one package are always
caught there; `tests/test_architecture.py` lists them.
"""


class SalaError(Exception):
    """Root of all errors that a user or a caller can cause. The message can be shown to the user as it is."""


class ModelError(SalaError):
    """A model cannot be found, read or run."""


class ConfigError(ModelError):
    """`config.json` asks for something outside the MiniCPM-SALA family."""


class CheckpointError(ModelError):
    """Weights are missing, have a wrong shape, or are stored in an unsupported layout."""


class TokenizerError(ModelError):
    """The tokenizer or its chat template cannot serve an append-only conversation."""


class DeviceError(ModelError):
    """The requested device is not available, or the kernels cannot be compiled for it."""


class DownloadError(ModelError):
    """A model cannot be downloaded as requested. What was downloaded is kept, and the same command continues."""


class HubNotFoundError(DownloadError):
    """The hub has no model of this name, or not this revision of it."""


class HubAccessError(DownloadError):
    """The hub refuses the model to this user: it is private or gated, or the token is not valid."""


class HubConnectionError(DownloadError):
    """The hub cannot be reached, or does not answer as a hub does."""


class DownloadSpaceError(DownloadError):
    """The disk has no room for the model, or no longer has."""


class DamagedDownloadError(DownloadError):
    """The bytes of a file are not those that the hub describes. The file was deleted, and the next run fetches it."""


class QuantizeError(ModelError):
    """A model cannot be quantized as requested."""


class TrainError(ModelError):
    """A model cannot be trained or converted as requested."""


class MemoryBudgetError(SalaError):
    """The requested work does not fit into memory."""


class IngestError(SalaError):
    """A file cannot be read as a document. The message is the reason shown to the user."""


class FetchError(IngestError):
    """An address cannot be fetched as requested."""


class UnreadableError(IngestError):
    """A document's format is known, and its text cannot be read."""


class PasswordError(UnreadableError):
    """A document is encrypted, and no password was given, or a wrong one."""


class StateError(SalaError):
    """A model state cannot be saved or restored."""


class StateMismatchError(StateError):
    """The state was computed with another model, dtype, layout or format."""


class CorruptStateError(StateError):
    """Stored bytes do not match their checksum or their description."""


class LibraryError(SalaError):
    """The library on disk cannot serve the request."""


class LibraryDamagedError(LibraryError):
    """The database is missing, damaged or older than the files beside it. `repair` makes it anew from them."""


class SessionNotFoundError(LibraryError):
    """No session has this name."""


class SessionExistsError(LibraryError):
    """Another session already has this name."""


class SessionBusyError(LibraryError):
    """Another process holds the session for writing."""


class ArchiveError(LibraryError):
    """A `.sala` file cannot be written, or what it holds cannot be taken in."""


class DiskFullError(LibraryError):
    """The disk or the library's quota is full. Nothing was lost."""


class EngineError(SalaError):
    """An engine elsewhere cannot answer. Nothing of the session was changed."""


class EngineUnreachableError(EngineError):
    """No connection to the engine's server, or it is silent for longer than it should need."""


class EngineRefusedError(EngineError):
    """The engine's server refuses the request: the key, the model, its size, or too many requests."""


class EngineContextError(EngineRefusedError):
    """The request is longer than the engine's context. context_tokens: as the server tells it; None if it does not."""

    def __init__(self, message: str, context_tokens: int | None = None) -> None:
        super().__init__(message)
        self.context_tokens = context_tokens


class EngineChangedError(EngineRefusedError):
    """The server does not serve the chosen model any more."""


class EngineFailedError(EngineError):
    """The engine's server failed, or its answer is none that this program understands."""


class EngineGoneError(EngineFailedError):
    """The server does not know any more what it is asked about, such as a job from before it lost its library."""


class EvalError(SalaError):
    """An evaluation cannot be started, continued or answered as requested."""


class BenchError(SalaError):
    """A measurement cannot be made as requested."""


class KernelReportError(SalaError):
    """The kernels cannot be compiled or compared."""


class DoctorError(SalaError):
    """An examination cannot be made, or its report not written, as requested."""


class SettingsError(SalaError):
    """An answer setting has an invalid value. The message names the setting and its valid values."""


class QuestionListError(SalaError):
    """A list of questions cannot be read, or its answers cannot go where they were to go."""


class ConversationError(SalaError):
    """The messages that a program has sent are not a conversation that can be answered."""


class UploadError(SalaError):
    """An upload is invalid or exceeds its limits."""


class UploadGoneError(UploadError):
    """The upload does not exist, or the server has dropped it."""


class DocumentsMissingError(UploadGoneError):
    """Documents that another Sala has ordered are not here. names: SHA-256 of their parcels."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"{len(names):,} documents are not at the server; send them again")
        self.names = names


class UploadOffsetError(UploadError):
    """Bytes of a document came for another place than the next one. received: where to go on."""

    def __init__(self, received: int) -> None:
        super().__init__(f"the document is received up to byte {received:,}; send it from there")
        self.received = received


class PlanGoneError(UploadError):
    """The plan of a reading does not exist, or was dropped or read already."""

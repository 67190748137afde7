"""The one exception tree. A message says what failed, the value seen, and the next step."""


class SalaError(Exception):
    """Root of every error a user or caller can cause; the text is fit to be shown as it is."""


class ModelError(SalaError):
    """A model cannot be found, read or run."""


class ConfigError(ModelError):
    """`config.json` asks for something outside the MiniCPM-SALA family."""


class CheckpointError(ModelError):
    """Weights are missing, of a wrong shape, or in a layout we do not read."""


class TokenizerError(ModelError):
    """The tokenizer or its chat template cannot serve an append-only conversation."""


class DeviceError(ModelError):
    """The device asked for is not there."""


class QuantizeError(ModelError):
    """A model cannot be quantized as asked."""


class TrainError(ModelError):
    """A model cannot be trained or converted as asked."""


class EvalError(SalaError):
    """An evaluation cannot be made, continued or answered as asked."""


class MemoryBudgetError(SalaError):
    """The work asked for does not fit into memory."""


class IngestError(SalaError):
    """A file cannot be read as a document; the message is the reason shown to the reader."""


class StateError(SalaError):
    """A model state cannot be saved or restored."""


class StateMismatchError(StateError):
    """The state was computed by another model, dtype, layout or format."""


class CorruptStateError(StateError):
    """Stored bytes do not match their checksum or their description."""


class LibraryError(SalaError):
    """The library on disk cannot serve the request."""


class SessionNotFoundError(LibraryError):
    """No session has this name."""


class SessionExistsError(LibraryError):
    """Another session already has this name."""


class SessionBusyError(LibraryError):
    """Another process holds the session for writing."""


class DiskFullError(LibraryError):
    """The disk or the library's quota is full; nothing was lost."""

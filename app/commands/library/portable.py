"""`export` and `import`: a session as one file, for another machine or another library."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.commands.load_lines import LoadLines
from app.grammar.parser import Arguments
from app.wording import count, plural, size

if TYPE_CHECKING:
    from sala_core.store.portable.export import Exported
    from sala_core.store.portable.import_session import Imported


def export_session(arguments: Arguments, folder: Path) -> int:
    """Write the session to a file and print what is in it. Needs no model. Raises SalaError."""
    from sala_core.store.library import Library
    from sala_core.store.portable.export import export_session as export

    assert arguments.archive is not None
    with closing(Library.open_to_read(folder)) as library, LiveLine(sys.stderr) as line:
        exported = export(
            library,
            arguments.session,
            arguments.archive,
            with_state=arguments.with_state,
            report=lambda done, total: line.show(f"Writing {size(done)} of {size(total)}"),
        )
        library.tidy()
    print(exported_text(arguments, exported), flush=True)
    return 0


def import_session(arguments: Arguments, folder: Path) -> int:
    """Take the session of a file into the library and print what was taken. Raises SalaError.

    The model is loaded only to know whether the state in the file is its own.
    """
    from sala_core.store.library import Library
    from sala_core.store.portable.container import Archive
    from sala_core.store.portable.import_session import import_session as take

    assert arguments.archive is not None
    with Archive(arguments.archive):
        pass  # a file that is none is refused before the model is loaded
    with closing(Library.open(folder)) as library:
        known = _fingerprints(arguments) if arguments.with_state else []
        with LiveLine(sys.stderr) as line:
            imported = take(
                library,
                arguments.archive,
                name=arguments.new_session or None,
                fingerprint=known[0] if known else None,
                others=known[1:],
                report=lambda done, total: line.show(f"Taking {count(done)} of {plural(total, 'part')}"),
            )
        library.tidy()
    print(imported_text(imported), flush=True)
    return 0


def _fingerprints(arguments: Arguments) -> list[str]:
    """The fingerprints of all states that the model can continue."""
    from sala_core import Engine

    with LoadLines() as lines:
        engine = Engine.load(
            arguments.model, arguments.device, kv=arguments.kv_kind, bos=arguments.bos_choice, report=lines.show
        )
    return engine.stored_fingerprints


def exported_text(arguments: Arguments, exported: "Exported") -> str:
    """Write what is in the file."""
    text = (
        f"Wrote {arguments.archive} ({size(exported.num_bytes)}): {plural(exported.num_documents, 'document')}, "
        f"{plural(exported.num_messages, 'message')}, {plural(exported.num_tokens, 'token')}, "
    )
    if exported.state_tokens:
        text += f"and the model's state after {plural(exported.state_tokens, 'token')}."
    else:
        text += "without the model's state."
    return text + (f"\nNote: {exported.note}." if exported.note else "")


def imported_text(imported: "Imported") -> str:
    """Write what was taken in, what was not, and what to do next."""
    lines = [
        f"Imported {imported.name}: {plural(imported.num_documents, 'document')}, "
        f"{plural(imported.num_messages, 'message')}, {plural(imported.num_tokens, 'token')}."
    ]
    lines += [f"Note: {note}" for note in imported.notes]
    unread = imported.num_tokens - imported.state_tokens
    if imported.is_other_model:
        lines.append(
            f"Its state was refused: it is of {imported.model} in another version, number format, --kv or --bos than "
            "the model in use. Start the program as it was there, or let this model read the session again: "
            f"read {imported.name!r} --again"
        )
    elif unread:
        lines.append(f"{plural(unread, 'token')} are read again with the next question.")
    else:
        lines.append("Nothing has to be read again.")
    return "\n".join(lines)

"""`verify` of the library or of one session: every row, text and state is read and compared with its checksum."""

import json
import sys
from contextlib import closing
from pathlib import Path

from app.commands.live_line import LiveLine
from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.wording import plural

_SHOW_EVERY = 16


def verify(arguments: Arguments, folder: Path) -> int:
    """Print one line for each fault. Return 0 only if all is sound. Raises SalaError."""
    from sala_core.store.integrity.verify import verify_library
    from sala_core.store.library import Library

    faults: list[dict[str, str]] = []
    done = 0
    with closing(Library.open_to_read(folder)) as library, StopSignals() as stop, LiveLine(sys.stderr) as line:
        mended = library.take_notices()
        for checked in verify_library(library, arguments.session or None, stop.is_set):
            done = checked.done
            if checked.problem:
                faults.append({"kind": checked.kind, "name": checked.name, "problem": checked.problem})
                line.clear()
                if not arguments.json:
                    print(f"WRONG {checked.kind} {checked.name}: {checked.problem}", flush=True)
            elif sys.stderr.isatty() and (checked.done % _SHOW_EVERY == 0 or checked.kind in ("segment", "snapshot")):
                line.show(f"Checked {checked.done:,} of {checked.total:,}: {checked.kind} {checked.name}")
    if arguments.json:
        print(
            json.dumps({"sound": not faults, "checked": done, "faults": faults, "mended": mended}, indent=2), flush=True
        )
    else:
        for note in mended:
            print(f"Note: {note}")
        print(_summary(done, len(faults)), flush=True)
    if stop.received is not None:
        print("Stopped; not everything was checked.", file=sys.stderr, flush=True)
        return stop.exit_code
    return 1 if faults else 0


def _summary(done: int, num_faults: int) -> str:
    if num_faults:
        found = f"{plural(num_faults, 'fault')} in {plural(done, 'check')}"
        return f"{found}; `repair` mends what can be mended, and what a session needs is mended when it is used."
    return f"{plural(done, 'check')}, nothing is wrong."

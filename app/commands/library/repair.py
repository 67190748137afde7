"""`repair` and `quota`: the library made sound again, and how much of the disk its states may take."""

from contextlib import closing
from pathlib import Path

from app.grammar.parser import Arguments
from app.wording import size


def repair(_arguments: Arguments, folder: Path) -> int:
    """Mend the library and print what was done, a line each. Raises SalaError."""
    from sala_core.store.integrity.repair import repair_library

    for sentence in repair_library(folder):
        print(f"{sentence}.", flush=True)
    return 0


def quota(arguments: Arguments, folder: Path) -> int:
    """Show or set the quota for states. Raises SalaError."""
    from sala_core.store.library import Library

    with closing(Library.open(folder)) as library:
        if arguments.quota != 0:
            library.set_quota(arguments.quota)
            if arguments.quota is not None:
                library.make_room(arguments.quota)
        limit, used = library.quota(), library.usage().states_bytes
    if limit is None:
        print(f"No quota: saved states take {size(used)}.")
        return 0
    print(
        f"Saved states take {size(used)} of {size(limit)}. The ones that were not used for longest make room for new "
        "ones; texts, conversations and open sessions are never touched."
    )
    return 0

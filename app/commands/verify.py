"""The command `verify`: reads all files of the model and says whether they are what they were, and were to be."""

from pathlib import Path

from app.commands.open_session import StopSignals
from app.grammar.parser import Arguments
from app.wording import plural, size


def verify(arguments: Arguments, _folder: Path) -> int:
    """Run the command. Return 1 if a file is wrong, otherwise 0. Raises SalaError."""
    from sala_core.model.checkpoint import resolve_model
    from sala_core.model.verify import verify_model

    wrong = total = published = 0
    model = resolve_model(arguments.model)
    print(f"Checking {model}", flush=True)
    with StopSignals() as stop:
        for check in verify_model(model, stop.is_set):
            total, published = total + 1, published + check.published
            wrong += not check.is_right
            word = "ok   " if check.is_right else "WRONG"
            known = ", as published" if check.published and check.note != "as published" else ""
            print(f"{word} {check.name} ({size(check.num_bytes)}): {check.note}{known}", flush=True)
    if stop.received is not None:
        print("Stopped; nothing was recorded.", flush=True)
        return stop.exit_code
    if wrong:
        print(f"{wrong} of {plural(total, 'file')} wrong.", flush=True)
        return 1
    print(f"{plural(total, 'file')} checked, {published} against published checksums: nothing is wrong.", flush=True)
    return 0

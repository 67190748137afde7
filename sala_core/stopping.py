"""How callers stop long work: they pass a function `should_stop`, which the work calls between its steps."""


def never() -> bool:
    """The default of `should_stop`: the work runs to its end."""
    return False

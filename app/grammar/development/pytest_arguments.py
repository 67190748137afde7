"""What of a command line belongs to pytest. Standard library only, like `app.grammar.parser`."""

COMMON_OPTIONS = ("--library", "--model", "--device", "--kv", "--kv-at-rest", "--bos")


def split_pytest_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return (own arguments, pytest's arguments).

    After `test`, everything goes to pytest except the common options and a `--help` that stands alone.
    """
    start = _index_of_command(argv)
    if start is None or argv[start] != "test":
        return argv, []
    own, pytest_args = argv[: start + 1], []
    rest = iter(argv[start + 1 :])
    if argv[start + 1 :] in (["--help"], ["-h"]):
        return argv, []
    for argument in rest:
        if argument in COMMON_OPTIONS:
            own += [argument, *([value] if (value := next(rest, None)) is not None else [])]
        elif argument.startswith(tuple(f"{option}=" for option in COMMON_OPTIONS)):
            own.append(argument)
        else:
            pytest_args.append(argument)
    return own, pytest_args


def _index_of_command(argv: list[str]) -> int | None:
    index = 0
    while index < len(argv):
        if not argv[index].startswith("-"):
            return index
        index += 2 if argv[index] in (*COMMON_OPTIONS, "--port", "--allow") else 1
    return None

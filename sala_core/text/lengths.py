"""Lengths in tokens as text."""


def length_name(tokens: int) -> str:
    """Return the short name of a length: 4096 -> 4K; 1048576 -> 1M; 5000 -> 5000."""
    for unit, size in (("M", 1 << 20), ("K", 1 << 10)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return str(tokens)

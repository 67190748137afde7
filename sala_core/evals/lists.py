"""Lists of words as lines of text."""


def listed(text: str) -> tuple[str, ...]:
    """The parts of a text, between commas if it has any, else between spaces."""
    return tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text.split())

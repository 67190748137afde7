"""How a passage is set in quotation marks, a name as code, and where a long passage is cut."""

_MARKS = (('"', '"'), ("“", "”"), ("«", "»"))


def quoted(text: str) -> str:
    """A text in quotation marks that it does not have itself, where there are such."""
    opening, closing = next((pair for pair in _MARKS if not set(pair) & set(text)), _MARKS[0])
    return f"{opening}{text}{closing}"


def as_code(name: str) -> str:
    """A document's name as Markdown's code, in which nothing else is markup."""
    return f"`{name.replace('`', chr(39))}`"


def unquoted(text: str) -> str:
    """A sentence that is one speech, without its own quotation marks; at its ends, without one that has no other."""
    for opening, closing in _MARKS:
        is_odd = text.count(opening) % 2 == 1 if opening == closing else text.count(opening) != text.count(closing)
        if is_odd and text.endswith(closing):
            text = text[: -len(closing)]
        elif is_odd and text.startswith(opening):
            text = text[len(opening) :]
    for opening, closing in _MARKS:
        inside = text[1:-1]
        if text.startswith(opening) and text.endswith(closing) and not {opening, closing} & set(inside):
            return inside
    return text


def word_end(text: str, limit: int) -> int:
    """Where the last word before `limit` characters ends; `limit` where there is none."""
    cut = text.rfind(" ", 0, limit)
    return cut if cut > 0 else limit

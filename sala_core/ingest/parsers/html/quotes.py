"""Quotation marks of `q` elements by language, as browsers set them (Unicode CLDR, `delimiters`)."""

_DEFAULT = ("“”", "‘’")
_QUOTES = {  # outside and inside
    "bg": ("„“", "‚‘"), "bs": ("„”", "‘’"), "ca": ("«»", "“”"), "cs": ("„“", "‚‘"), "da": ("“”", "‘’"),
    "de": ("„“", "‚‘"), "el": ("«»", "“”"), "es": ("«»", "“”"), "et": ("„“", "«»"), "fa": ("«»", "‹›"),
    "fi": ("””", "’’"), "fr": ("«»", "‹›"), "hr": ("„“", "‚‘"), "hu": ("„”", "»«"), "hy": ("«»", "«»"),
    "is": ("„“", "‚‘"), "it": ("«»", "“”"), "ja": ("「」", "『』"), "ka": ("„“", "“„"), "lt": ("„“", "„“"),
    "lv": ("“”", "‘’"), "mk": ("„“", "‚‘"), "nb": ("«»", "‘’"), "nl": ("‘’", "“”"), "nn": ("«»", "‘’"),
    "no": ("«»", "‘’"), "pl": ("„”", "«»"), "ro": ("„”", "«»"), "ru": ("«»", "„“"), "sk": ("„“", "‚‘"),
    "sl": ("„“", "‚‘"), "sq": ("«»", "“”"), "sr": ("„”", "‘’"), "sv": ("””", "’’"), "uk": ("«»", "„“"),
    "zh-hant": ("「」", "『』"), "zh-tw": ("「」", "『』"), "zh-hk": ("「」", "『』"), "de-ch": ("«»", "‹›"),
    "pt-pt": ("«»", "“”"), "it-ch": ("«»", "‹›"),
}  # fmt: skip


def quotation_marks(language: str, depth: int) -> str:
    """Return the opening and the closing mark. language: a tag of BCP 47; depth: number of quotations around it."""
    tag = language.lower().replace("_", "-")
    marks = _QUOTES.get("-".join(tag.split("-")[:2])) or _QUOTES.get(tag.partition("-")[0], _DEFAULT)
    return marks[depth % 2]

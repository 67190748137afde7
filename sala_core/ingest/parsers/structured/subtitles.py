"""Subtitles (SubRip, WebVTT) as text with times: without numbers, styles and formatting."""

import re
from html import unescape

from ..charset import decode_plain
from ..result import Parsed, ParseError, ParseLimits

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_TIMING = re.compile(rf"^\s*({_TIME})\s*-->\s*({_TIME})")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s++([^>]{1,200})>")
_MARKUP = re.compile(
    r"</?(?:[biucvs]|ruby|lang|font|span|em|strong)\b[^>]{0,200}>|<\d[\d:.]*>|\{(?:\\|[a-z]:)[^}]{0,500}\}",
    re.IGNORECASE,
)
_READING = re.compile(r"<rt\b[^>]*>(.*?)(?:</rt>|(?=</ruby>)|$)", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>|\\N", re.IGNORECASE)
_MARKS = re.compile("[\u200b\u200e\u200f]")


def parse_subtitles(path: str, limits: ParseLimits) -> Parsed:
    """Return the cues with their times, each in lines of its own. A file without times is returned as it stands.

    Raises ParseError if the file is too large.
    """
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of subtitles")
    text, notes = decode_plain(data)
    is_vtt = text.startswith("WEBVTT")
    lines: list[str] = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
        if filled := [line for line in block.split("\n") if line.strip()]:
            lines += _block_lines(filled, is_vtt)
    return Parsed(text="\n".join(lines).strip("\n") + "\n", warnings=notes)


def _block_lines(block: list[str], is_vtt: bool) -> list[str]:
    """The lines of a cue or of another block, with an empty line behind them."""
    if is_vtt and block[0].startswith(("WEBVTT", "STYLE", "REGION", "NOTE")):
        return []
    kept: list[str] = []
    for index, line in enumerate(block):
        if match := _TIMING.match(line):
            # the number or name of the cue stands in the line before its times
            if kept and (index == 1 or kept[-1].strip().isdecimal()):
                kept.pop()
            kept.append(f"{match[1]} --> {match[2]}")
        else:
            kept += _plain(line)
    return [*kept, ""]


def _plain(line: str) -> list[str]:
    """A line without formatting; a voice tag becomes the speaker's name, a reading stands in parentheses."""
    line = _READING.sub(r"(\1)", _VOICE.sub(r"\1: ", line))
    parts = (_MARKUP.sub("", part).replace("\\h", " ") for part in _BREAK.split(line))
    return [_MARKS.sub("", unescape(part)).replace("\u00a0", " ") for part in parts]

"""Subtitles (SubRip, WebVTT) as text with times: without numbers, styles and formatting."""

import re

from ..charset import decode_plain
from ..result import Parsed, ParseError, ParseLimits

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_TIMING = re.compile(rf"^\s*({_TIME})\s*-->\s*({_TIME})")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_MARKUP = re.compile(r"</?(?:[biucvs]|ruby|rt|lang|font)\b[^>]*>|<\d[\d:.]*>|\{\\[^}]*\}", re.IGNORECASE)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&lrm;": "", "&rlm;": "", "&amp;": "&"}


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
        lines += _block_lines(block.strip("\n").split("\n"), is_vtt)
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
            kept.append(_plain(line, is_vtt))
    return [*kept, ""]


def _plain(line: str, is_vtt: bool) -> str:
    """A line without formatting; a voice tag becomes the speaker's name."""
    line = _MARKUP.sub("", _VOICE.sub(r"\1: ", line))
    if is_vtt and "&" in line:
        for entity, char in _ENTITIES.items():
            line = line.replace(entity, char)
    return line

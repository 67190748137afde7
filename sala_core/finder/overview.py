"""Questions about a text as a whole: what it is about, who wrote it, its parts and names, how often a word is in it.

No sentence answers them. What can be said of them without understanding is counted or read off the text's form.
"""

import re
from dataclasses import dataclass
from enum import Enum


class Overview(Enum):
    """What is asked of a text as a whole."""

    SUMMARY = "summary"
    AUTHOR = "author"
    NUMBER_OF_PARTS = "number of parts"
    PARTS = "parts"
    NAMES = "names"
    OCCURRENCES = "occurrences"
    LENGTH = "length"


@dataclass(frozen=True, kw_only=True)
class OverviewQuestion:
    """What is asked. what: the kind of part, "chapter", or the words that are counted; "" for anything else."""

    kind: Overview
    what: str = ""


_TEXT = (
    "(?:this|the|it|these|those|that|my|all|everything)(?: (?:whole|entire|uploaded|attached))?"
    "(?: (?:book|novel|story|text|paper|article|document|file|pdf|manual|report|code|codebase|repo|repository|project"
    "|folder|work|play|poem|essay|thing|one|here)s?)?"
)
_OF = f"(?: (?:of|in|from|about) {_TEXT})?"
_PART = "(?P<what>chapter|part|book|volume|act|scene|letter|section|heading|canto)s?"
_GIVE = "(?:(?:give|show|tell|write|list|name|make)(?: me)? |what(?: i|')s |what are |who are )?"
_FORMS = (
    (Overview.SUMMARY, f"what(?: i|')?s {_TEXT} (?:all )?about|what are {_TEXT} (?:all )?about"),
    (Overview.SUMMARY, f"what does {_TEXT} (?:do|say|cover|contain|deal with|describe|tell)(?: me| us)?"),
    (Overview.SUMMARY, "(?:summari[sz]e|sum up|recap)(?: .{1,60})?|tl;?dr"),
    (Overview.SUMMARY, f"(?:explain|describe|introduce) {_TEXT}"),
    (
        Overview.SUMMARY,
        f"{_GIVE}(?:an? |the )?(?:(?:short|brief|quick|main|key|central|general|overall) )*"
        f"(?:summary|overview|synopsis|abstract|gist|plot|ideas?|points?|themes?|topics?|messages?|takeaways?|findings"
        f"|contents?|conclusions?){_OF}",
    ),
    (Overview.SUMMARY, f"what happens(?: at the (?:end|beginning))?{_OF}|how does {_TEXT} (?:end|begin|start)"),
    (Overview.AUTHOR, f"who (?:is|was|are) (?:the )?(?:author|writer)s?{_OF}|who (?:wrote|has written) {_TEXT}"),
    (Overview.AUTHOR, f"(?:author|by whom is {_TEXT}(?: written)?)"),
    (Overview.NUMBER_OF_PARTS, f"how many {_PART} (?:are(?: there)?|does {_TEXT} have|has {_TEXT}|is there){_OF}"),
    (Overview.NUMBER_OF_PARTS, f"how many {_PART}"),
    (
        Overview.PARTS,
        f"{_GIVE}(?:all |the |all the )?(?:(?:titles|names|list) of (?:all |the |all the )?)?{_PART}"
        f"(?: titles| names)?{_OF}",
    ),
    (Overview.PARTS, f"{_GIVE}(?:the |an? )?(?:table of contents|contents|outline|structure|headings){_OF}"),
    (
        Overview.NAMES,
        f"(?:{_GIVE}|who is )(?:all |the |all the )?(?:(?:main|major|important|central|most important) )?"
        f"(?:characters?|people|persons|person[ae]e|protagonists?|names|figures|hero|heroine){_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "how (?:often|many times) (?:is|are|was|were) (?:the (?:word|name|phrase|term) )?(?P<what>.{1,60}?) "
        f"(?:mentioned|named){_OF}",
    ),
    (
        Overview.OCCURRENCES,
        "how (?:often|many times) (?:is|are|was|were|do|does|did) "
        "(?:the (?:word|name|phrase|term) (?P<word>.{1,60}?)|(?P<what>[\"'“`].{1,60}?[\"'”`])) "
        f"(?:mentioned|used|named|written|appear|occur|come up|stand|found){_OF}",
    ),
    (
        Overview.LENGTH,
        f"how (?:long|big|large) (?:is|are) {_TEXT}"
        f"|how many (?:words|pages|lines) (?:are (?:there|in)|does|has)(?: {_TEXT})?(?: have)?{_OF}",
    ),
)
_PATTERNS = tuple((kind, re.compile(form, re.IGNORECASE)) for kind, form in _FORMS)
_POLITE = re.compile(r"^(?:please|can you|could you|would you|i want|hi|hello|ok)\b[ ,]*|[ ,]*\bplease$", re.IGNORECASE)


def overview_question(question: str) -> OverviewQuestion | None:
    """What a question asks of a text as a whole; None for any other question."""
    asked = " ".join(re.sub(r"[?!.,;:]+(?=\s|$)", " ", question.replace("’", "'")).split())
    while asked != (shorter := _POLITE.sub("", asked).strip()):
        asked = shorter
    for kind, pattern in _PATTERNS:
        if (match := pattern.fullmatch(asked)) is not None:
            groups = match.groupdict()
            what = groups.get("what") or groups.get("word") or ""
            is_word = kind is Overview.OCCURRENCES
            return OverviewQuestion(kind=kind, what=what.strip("\"'“”`") if is_word else what.lower())
    return None

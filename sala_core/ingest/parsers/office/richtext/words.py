"""The control words of Rich Text that change what is shown (RTF specification 1.9.1)."""

import re

CHARACTERS = {
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "endash": "–", "emdash": "—",
    "enspace": " ", "emspace": " ", "qmspace": " ", "zwj": "\u200d", "zwnj": "\u200c", "zwbo": "", "zwnbo": "",
    "ltrmark": "", "rtlmark": "",
}  # fmt: skip
BREAKS = frozenset({"par", "sect", "page", "column", "pagebb"})
STORIES = frozenset(
    {
        "footnote", "annotation", "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr",
        "footerf", "shptxt", "dptxbxtext",
    }
)  # fmt: skip
"""Destinations with paragraphs of their own."""
SKIPPED = frozenset(
    {
        "colortbl", "info", "pict", "themedata", "colorschememapping", "latentstyles", "datastore", "xmlnstbl",
        "listtable", "listoverridetable", "generator", "filetbl", "revtbl", "rsidtbl", "objdata", "objclass", "objname",
        "bkmkstart", "bkmkend", "nonshppict", "pn", "pgdsctbl", "ftnsep", "ftnsepc", "ftncn", "aftnsep", "aftnsepc",
        "aftncn", "tc", "tcn", "xe", "mmathPict", "mmathPr", "nonesttables", "atnid", "atnref", "atndate", "atnicn",
        "atntime", "atnparent", "atrfstart", "atrfend", "docvar", "userprops", "wgrffmtfilter", "mailmerge", "htmltag",
        "fontemb", "fontfile", "panose", "falt", "fname", "blipuid", "shprslt", "template", "private", "rxe",
        "datafield",
        "formfieldname", "ffname", "ffdeftext", "ffhelptext", "ffstattext", "ffentrymcr", "ffexitmcr", "ffformat",
        "mctrlPr", "mfPr", "msSupPr", "msSubPr", "mradPr", "mnaryPr", "mdPr", "mfuncPr", "maccPr", "mbarPr", "meqArrPr",
        "msSubSupPr", "mmPr", "mlimLowPr", "mlimUppPr", "mgroupChrPr", "mboxPr", "moMathParaPr", "msPrePr", "mphantPr",
        "svb", "passwordhash", "protusertbl", "writereservhash", "factoidname", "oldcprops", "oldpprops", "oldtprops",
        "oldsprops", "expandedcolortbl", "cf",
    }
) - {"cf"}  # fmt: skip
"""Destinations that are not shown."""
ENTERED = frozenset(
    {
        "shp", "shpinst", "shpgrp", "sp", "do", "shppict", "field", "fldrslt", "object", "result", "nesttableprops",
        "formfield", "ffl", "moMath", "moMathPara", "mmath", "mr", "mf", "msSup", "msSub", "msSubSup", "me", "mrad",
        "mdeg", "mnary", "md", "mfunc", "mfName", "mlim", "mlimLow", "mlimUpp", "macc", "mbar", "mm", "mmr", "meqArr",
        "mbox", "mgroupChr", "rtf", "upr", "dptxbx", "background", "dpgroup",
    }
)  # fmt: skip
"""Destinations whose content is shown as if they were not there."""
_HEADING = re.compile(r"(?:heading|überschrift|titre|título|заголовок)\s*([1-9])", re.IGNORECASE)


def heading_of(style: str, outline: int) -> int:
    """Return 1 to 6 for a paragraph that is a heading, otherwise 0. style: its name; outline: its level from 0."""
    name = style.split(";")[0].strip()
    if match := _HEADING.fullmatch(name):
        return min(int(match[1]), 6)
    if name.lower() == "title":
        return 1
    return min(outline + 1, 6) if 0 <= outline < 9 else 0

"""Names of character encodings, as web pages and e-mails declare them, and the codec that each stands for.

Source: WHATWG Encoding Standard, section 4.2 (names and labels). A label stands for the larger encoding that browsers
use for it: `latin1` for windows-1252, `gb2312` for GB18030.
"""

import re

_CODECS = {
    "utf-8": "utf8 utf-8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 utf8mb4",
    "cp866": "866 cp866 csibm866 ibm866",
    "koi8_r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8_u": "koi8-ru koi8-u koi8_u",
    "mac_roman": "csmacintosh mac macintosh x-mac-roman macroman",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "dos-874 tis-620 tis620 windows-874 cp874 iso-8859-11 iso8859-11 iso885911",
    "gb18030": (
        "gb18030 gbk gb2312 gb_2312 gb_2312-80 gb-2312 x-gbk chinese csgb2312 csiso58gb231280 iso-ir-58 cp936 "
        "windows-936 ms936 euc-cn"
    ),
    "big5hkscs": "big5 big5-hkscs big5hkscs cn-big5 csbig5 x-x-big5 cp950 windows-950 big5-eten",
    "euc_jp": "euc-jp eucjp cseucpkdfmtjapanese x-euc-jp ujis",
    "iso2022_jp": "iso-2022-jp csiso2022jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis cp932 windows-932 x-ms-cp932",
    "cp949": (
        "euc-kr euckr cseuckr csksc56011987 iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 "
        "windows-949 cp949 uhc ms949 ks_c_5601"
    ),
    "iso2022_kr": "iso-2022-kr csiso2022kr",
    "hz": "hz-gb-2312 hz",
    "utf-16-le": "utf-16 utf-16le csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff",
    "utf-16-be": "utf-16be unicodefffe",
    "utf-32-le": "utf-32 utf-32le",
    "utf-32-be": "utf-32be",
    "cp1252": (
        "ascii us-ascii ansi_x3.4-1968 ansi_x3.4-1986 iso_646.irv:1991 iso646-us us latin1 latin-1 l1 csisolatin1 "
        "iso-ir-100 cp819 ibm819 ansi x-ansi x-user-defined"
    ),
    "iso8859_2": "latin2 l2 csisolatin2 iso-ir-101",
    "iso8859_3": "latin3 l3 csisolatin3 iso-ir-109",
    "iso8859_4": "latin4 l4 csisolatin4 iso-ir-110",
    "iso8859_5": "cyrillic csisolatincyrillic iso-ir-144",
    "iso8859_6": "arabic asmo-708 ecma-114 csiso88596e csiso88596i csisolatinarabic iso-ir-127",
    "iso8859_7": "greek greek8 ecma-118 elot_928 sun_eu_greek csisolatingreek iso-ir-126",
    "iso8859_8": "hebrew visual logical csiso88598e csiso88598i csisolatinhebrew iso-ir-138",
    "cp1254": "latin5 l5 csisolatin5 iso-ir-148",
    "iso8859_10": "latin6 l6 csisolatin6 iso-ir-157",
    "iso8859_15": "latin9 latin-9 l9 csisolatin9",
}
_BY_LABEL = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
_ISO_8859 = re.compile(r"(?:cs)?iso[-_]?8859[-_]?(\d{1,2})(?::\d{4})?(?:-[ei])?")
_WINDOWS = re.compile(r"(?:x-cp|cp|windows[-_]?|win[-_]?|cswindows)(125[0-8])")
_DOS = re.compile(r"(?:cp|ibm)?(437|850|852|855|857|858|860|861|862|863|864|865|869)")
# parts of ISO 8859 that a browser reads as the larger Windows code page
_WINDOWS_OF_ISO = {1: "cp1252", 9: "cp1254", 11: "cp874"}


def codec_for(label: str) -> str | None:
    """Return the Python codec for an encoding label (any case, white space around it), or None if it is unknown."""
    label = label.strip().lower()
    if codec := _BY_LABEL.get(label):
        return codec
    if (match := _ISO_8859.fullmatch(label)) and (part := int(match[1])) in {*range(1, 12), 13, 14, 15, 16}:
        return _WINDOWS_OF_ISO.get(part, f"iso8859_{part}")
    if match := _WINDOWS.fullmatch(label):
        return f"cp{match[1]}"
    if match := _DOS.fullmatch(label):
        return f"cp{match[1]}"
    return None


_WEB_NAMES = {
    "utf-8": "UTF-8", "gb18030": "GB18030", "big5hkscs": "Big5", "cp932": "Shift_JIS", "cp949": "EUC-KR",
    "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP", "iso2022_kr": "ISO-2022-KR", "koi8_r": "KOI8-R",
    "koi8_u": "KOI8-U", "mac_roman": "Macintosh", "mac_cyrillic": "x-mac-cyrillic", "hz": "HZ-GB-2312",
    "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE",
    "cp866": "IBM866",
}  # fmt: skip


def web_name(codec: str) -> str:
    """Return the name of a codec as people write it: `windows-1252`, `Shift_JIS`, `ISO-8859-2`."""
    if name := _WEB_NAMES.get(codec):
        return name
    if codec.startswith("iso8859_"):
        return "ISO-8859-" + codec[8:]
    if codec.startswith(("cp125", "cp874")):
        return "windows-" + codec[2:]
    return codec.upper().replace("CP", "IBM")

"""EPUB to text: the chapters of the spine in reading order, each converted by the HTML extractor.

Members of the archive are read into memory by name. Nothing is unpacked to disk.
"""

import lzma
import posixpath
import zipfile
import zlib
from urllib.parse import unquote
from xml.etree import ElementTree

from .html_text import html_to_text
from .result import Parsed, ParseError, ParseLimits

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")

# raised by zipfile for damaged archives: wrong checksums, offsets, methods and names
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError, ValueError)


def parse_epub(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of all chapters, separated by empty lines; an EPUB has no pages.

    Raises ParseError for a damaged, encrypted (DRM) or empty book, and for one that unpacks to more than the limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_book(_Members(archive, limits.max_unpacked_bytes), limits)
    except (*_DAMAGE, ElementTree.ParseError) as error:
        raise ParseError("a damaged EPUB: it cannot be opened") from error


class _Members:
    """The members of the archive by name. Counts the bytes unpacked, because the sizes in the archive can be false."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        self._archive = archive
        self._max_bytes = self._left = max_bytes
        self._names = {info.filename: info for info in archive.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        """Return one whole member. Raises KeyError for an unknown name, ParseError if encrypted or over the limit."""
        info = self._names[name]
        if info.flag_bits & 1:
            raise ParseError("an encrypted EPUB: remove its password and add it again")
        with self._archive.open(info) as file:
            data = file.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ParseError(f"an EPUB that unpacks to more than {self._max_bytes / 2**20:,.1f} MiB")
        return data


def _read_book(members: _Members, limits: ParseLimits) -> Parsed:
    opf_name = _opf_name(members)
    chapters, missing = _spine(members, opf_name)
    locked = _locked_members(members)
    if any(name in locked for name in chapters):
        raise ParseError("an encrypted EPUB (copy protection): it cannot be read")
    texts: list[str] = []
    num_bytes = 0
    for name in chapters:
        try:
            text = html_to_text(members.read(name), drop_navigation=False)
        except (KeyError, *_DAMAGE):
            missing.append(name)
            continue
        num_bytes += len(text.encode())
        if num_bytes > limits.max_text_bytes:
            raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
        if text:
            texts.append(text)
    if not texts:
        raise ParseError("an EPUB without any text (its pages may be pictures)")
    warnings = tuple(f"chapter {name} is missing or damaged" for name in missing)
    return Parsed(text="\n".join(texts), warnings=warnings)


def _opf_name(members: _Members) -> str:
    """Name of the package document (OPF). Raises ParseError if there is none."""
    if _CONTAINER not in members:
        raise ParseError("a damaged EPUB: it does not say where its content is")
    for element in ElementTree.fromstring(members.read(_CONTAINER)).iter():
        name = element.get("full-path")
        if _local(element) == "rootfile" and name and name in members:
            return name
    raise ParseError("a damaged EPUB: its table of content is missing")


def _spine(members: _Members, opf_name: str) -> tuple[list[str], list[str]]:
    """(names of the chapters in reading order, without the navigation page; references to missing members)."""
    items: dict[str, tuple[str, str, str]] = {}
    order: list[str] = []
    for element in ElementTree.fromstring(members.read(opf_name)).iter():
        if _local(element) == "item":
            details = (element.get("href", ""), element.get("media-type", ""), element.get("properties", ""))
            items[element.get("id", "")] = details
        elif _local(element) == "itemref":
            order.append(element.get("idref", ""))
    chapters: list[str] = []
    missing: list[str] = []
    for idref in dict.fromkeys(order):
        if idref not in items:
            missing.append(idref)
            continue
        href, media_type, properties = items[idref]
        if "nav" in properties.split() or (media_type and media_type not in _CHAPTER_TYPES):
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(opf_name), unquote(href.split("#")[0])))
        (chapters if name in members else missing).append(name)
    return chapters, missing


def _locked_members(members: _Members) -> set[str]:
    """Names of the encrypted members: chapters under DRM, or merely obfuscated fonts."""
    if _ENCRYPTION not in members:
        return set()
    root = ElementTree.fromstring(members.read(_ENCRYPTION))
    return {unquote(element.get("URI", "")) for element in root.iter() if _local(element) == "CipherReference"}


def _local(element: ElementTree.Element) -> str:
    """The tag without its namespace. The tag of a comment is a function: then ""."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""

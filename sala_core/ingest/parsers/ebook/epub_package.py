"""The package of an EPUB: which files are its chapters, in which order, and which of them are encrypted."""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..charset import decode_html
from ..failures import DAMAGE
from .members import PAGE_SUFFIXES, LockedError, Members
from .xml_tags import Tag, xml_tags

_CONTAINER = "META-INF/container.xml"
_PAGE_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_FONT_ALGORITHMS = ("idpf.org/2008/embedding", "ns.adobe.com/pdf/enc#rc")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One file of the reading order. is_contents: the book declares it as its table of contents."""

    name: str
    is_contents: bool = False
    fallbacks: tuple[str, ...] = ()
    """The files to read if this one is a picture or another medium, the first that is text."""


@dataclass(frozen=True, kw_only=True)
class ReadingOrder:
    """The chapters in the order in which they are read, and what is wrong with the order."""

    chapters: tuple[Chapter, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A file that the manifest lists. name: None if the book does not have it."""

    id: str
    href: str
    name: str | None
    media_type: str
    is_contents: bool
    fallback: str


def reading_order(members: Members) -> ReadingOrder:
    """Return the chapters of a book by its package document, or by their names if it has none that can be read."""
    names = _package_names(members)
    for number, name in enumerate(names):
        try:
            items, spine = _package(members, name)
        except (LockedError, *DAMAGE):
            continue
        if items:
            order = _by_package(members, items, spine)
            if order.chapters or order.missing:
                known = {chapter.name for chapter in order.chapters}
                return replace(order, notes=(*order.notes, *_other_renditions(members, names[number + 1 :], known)))
    pages = [name for name in members.names if name.lower().endswith(PAGE_SUFFIXES)]
    chapters = tuple(Chapter(name=name) for name in sorted(pages, key=_natural_key))
    return ReadingOrder(
        chapters=chapters,
        notes=("its list of chapters (.opf) is missing or damaged: they are read in the order of their names",),
    )


def locked_members(members: Members) -> set[str]:
    """Return the names of encrypted members. Fonts that are merely obfuscated are not among them."""
    locked: set[str] = set()
    name = next((name for name in members.names if name.lower().endswith("meta-inf/encryption.xml")), None)
    root = _root_of(name, "META-INF/encryption.xml")
    algorithm = ""
    for tag in _tags(members, name):
        if tag.name == "encrypteddata":
            algorithm = ""
        elif tag.name == "encryptionmethod" and tag.starts:
            algorithm = algorithm or tag.attributes.get("algorithm", "")
        elif tag.name == "cipherreference" and tag.starts:
            found = members.find(tag.attributes.get("uri", ""), root)
            if found and not any(known in algorithm.lower() for known in _FONT_ALGORITHMS):
                locked.add(found)
    return locked


def protection_name(members: Members) -> str:
    """Return the name of the copy protection that a book's files show, "" if none is known."""
    at_top = [name for name in members.names if "meta-inf/" in name.lower() or "/" not in name]
    names = {posixpath.basename(name).lower(): name for name in at_top}
    if "license.lcpl" in names:
        return "Readium LCP"
    if "sinf.xml" in names:
        return "Apple FairPlay"
    signs = ""
    for file in ("rights.xml", "encryption.xml"):
        try:
            signs += decode_html(members.read(names[file]))[0].lower() if file in names else ""
        except (LockedError, *DAMAGE):
            continue
    known = {
        "license.lcpl": "Readium LCP", "readium.org": "Readium LCP", "ns.adobe.com/adept": "Adobe ADEPT",
        "kdrm": "Kobo", "kobo": "Kobo", "barnesandnoble": "Barnes & Noble", "fairplay": "Apple FairPlay",
        "itunes": "Apple FairPlay",
    }  # fmt: skip
    return next((scheme for sign, scheme in known.items() if sign in signs), "")


def _package_names(members: Members) -> list[str]:
    """The package documents: those that container.xml names, then any other, the uppermost first."""
    containers = [name for name in members.names if name.lower().endswith(_CONTAINER.lower())]
    named: list[str] = []
    for container in sorted(containers, key=len):
        for tag in _tags(members, container):
            if tag.name == "rootfile" and tag.starts:
                found = members.find(tag.attributes.get("full-path", ""), _root_of(container, _CONTAINER))
                named += [found] if found else []
    others = sorted((n for n in members.names if n.lower().endswith(".opf")), key=lambda n: (n.count("/"), n))
    return list(dict.fromkeys([*named, *others]))


def _other_renditions(members: Members, names: list[str], known: set[str]) -> list[str]:
    """Notes on package documents whose pages are others: the same book in another form, or another language."""
    notes = []
    for name in names:
        try:
            items, spine = _package(members, name)
        except (LockedError, *DAMAGE):
            continue
        pages = {chapter.name for chapter in _by_package(members, items, spine).chapters} - known
        if pages:
            notes.append(f"a second form of the book ({name}, {len(pages):,} pages) is not read")
    return notes


def _package(members: Members, package: str) -> tuple[list[_Item], list[str]]:
    """(the manifest, the references of the spine) of a package document."""
    folder = posixpath.dirname(package)
    raw: list[dict[str, str]] = []
    spine: list[str] = []
    contents: set[str | None] = set()
    for tag in _tags(members, package):
        if not tag.starts:
            continue
        if tag.name == "item" and "href" in tag.attributes:
            raw.append(dict(tag.attributes))
        elif tag.name == "itemref":
            spine.append(tag.attributes.get("idref", ""))
        elif tag.name == "reference" and tag.attributes.get("type", "").lower() == "toc":
            contents.add(members.find(tag.attributes.get("href", ""), folder))
    items = []
    for values in raw:
        name = members.find(values["href"], folder)
        items.append(
            _Item(
                id=values.get("id", ""),
                href=values["href"],
                name=name,
                media_type=values.get("media-type", "").partition(";")[0].strip().lower(),
                is_contents="nav" in values.get("properties", "").split() or (name is not None and name in contents),
                fallback=values.get("fallback", ""),
            )
        )
    return items, spine


def _by_package(members: Members, items: list[_Item], spine: list[str]) -> ReadingOrder:
    """The chapters of the spine at their places, then pages that the book lists but the spine leaves out."""
    by_id: dict[str, _Item] = {}
    for item in items:
        for key in (item.id, item.id.casefold(), item.href):
            by_id.setdefault(key, item)
    chapters: dict[str, Chapter] = {}
    missing: dict[str, None] = {}
    for idref in dict.fromkeys(spine):
        found = by_id.get(idref) or by_id.get(idref.casefold())
        if found is None or found.name is None:
            missing[found.href if found else idref] = None
        else:
            chapters.setdefault(found.name, _chapter(found, by_id))
    fallbacks = {item.fallback for item in items if item.fallback}
    others = [item for item in items if item.name not in chapters and item.id not in fallbacks and _is_page(item)]
    listed = {item.name for item in items}
    unlisted = [name for name in members.names if name.lower().endswith(PAGE_SUFFIXES) and name not in listed]
    unlisted.sort(key=_natural_key)
    if not chapters:
        pages = {item.name: _chapter(item, by_id) for item in others if item.name}
        pages |= {name: Chapter(name=name) for name in unlisted}
        notes = ("its reading order is missing: the chapters are read in the order of its list of files",)
        return ReadingOrder(chapters=tuple(pages.values()), missing=tuple(missing), notes=notes if pages else ())
    rest = [item.name for item in others if item.name and not item.is_contents]
    rest += unlisted if missing else []
    return ReadingOrder(
        chapters=(*chapters.values(), *(Chapter(name=name) for name in dict.fromkeys(rest))),
        missing=tuple(missing),
        notes=(),
    )


def _chapter(item: _Item, by_id: dict[str, _Item]) -> Chapter:
    fallbacks: dict[str, None] = {}
    next_item = by_id.get(item.fallback) if item.fallback else None
    while next_item is not None and next_item.name and next_item.name not in fallbacks:
        fallbacks[next_item.name] = None
        next_item = by_id.get(next_item.fallback) if next_item.fallback else None
    return Chapter(name=item.name or "", is_contents=item.is_contents, fallbacks=tuple(fallbacks))


def _is_page(item: _Item) -> bool:
    """Whether a file of the manifest is a page of text, by its name or its media type."""
    return item.href.split("#")[0].lower().endswith(PAGE_SUFFIXES) or item.media_type in _PAGE_TYPES


def _tags(members: Members, name: str | None) -> Iterator[Tag]:
    """The tags of a member; none if it is missing or cannot be read."""
    if name is None:
        return
    try:
        text, _ = decode_html(members.read(name))
    except (LockedError, *DAMAGE):
        return
    for tag in xml_tags(text):
        if isinstance(tag, Tag):
            yield tag


def _root_of(name: str | None, suffix: str) -> str:
    """The folder inside the archive that holds the book."""
    return (name or suffix)[: -len(suffix)].rstrip("/")


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    parts = _NUMBER.split(name.casefold())
    return [(0, int(part), "") if index % 2 and len(part) < 20 else (1, 0, part) for index, part in enumerate(parts)]

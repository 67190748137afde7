"""The parts of an office document: a zip archive of XML files that refer to each other."""

import posixpath
from dataclasses import dataclass

from ..ebook.members import LockedError, ZipMembers
from ..failures import DAMAGE
from ..result import ParseError, ParseLimits
from .xml_tree import Node, parse_xml

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_OLD = {
    "WordDocument": ("an old Word document (.doc)", ".docx"),
    "Workbook": ("an old Excel workbook (.xls)", ".xlsx"),
    "Book": ("an old Excel workbook (.xls)", ".xlsx"),
    "PowerPoint Document": ("an old PowerPoint presentation (.ppt)", ".pptx"),
}
_OLE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Relation:
    """What a part refers to. name: of the part, "" if it is outside of the file. kind: last word of its type."""

    name: str
    kind: str
    target: str


class Package:
    """The parts of an open archive. notes: what is wrong with them, for the receipt."""

    def __init__(self, members: ZipMembers) -> None:
        self._members = members
        self.notes: list[str] = []
        self._relations: dict[str, dict[str, Relation]] = {}
        if members.is_damaged:
            self.notes.append("the archive is damaged or cut off: only what is left of it is read")

    @property
    def names(self) -> list[str]:
        """Names of all parts."""
        return self._members.names

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a part; None, with a note, if it is missing or cannot be unpacked."""
        found = self._members.find("/" + name.lstrip("/"))
        if found is None:
            self.notes.append(f"{name} is missing from the file")
            return None
        try:
            data = self._members.read(found)
        except LockedError as error:
            raise ParseError("an encrypted document: remove its password and add it again") from error
        except DAMAGE:
            self.notes.append(f"{name} is damaged and not read")
            return None
        if found in self._members.damaged:
            self.notes.append(f"{name} is damaged: only a part of it is read")
        return data

    def has(self, name: str) -> bool:
        """Return whether there is a part with this name."""
        return self._members.find("/" + name.lstrip("/")) is not None

    def tree(self, name: str) -> Node | None:
        """Return the tree of a part, None (with a note) if there is nothing to read in it."""
        data = self.read(name)
        if data is None:
            return None
        root, problem = parse_xml(data)
        if problem:
            self.notes.append(f"{name}: {problem}")
        return root if root.name else None

    def optional(self, name: str) -> Node | None:
        """Return the tree of a part that need not be there."""
        return self.tree(name) if name and self.has(name) else None

    def relations(self, name: str) -> dict[str, Relation]:
        """Return what a part refers to, by the ids that its references use."""
        if name not in self._relations:
            folder, base = posixpath.split(name)
            root = self.optional(posixpath.join(folder, "_rels", base + ".rels"))
            self._relations[name] = {}
            for node in root.all("rel:Relationship") if root else []:
                target = node.get("Target")
                inside = node.get("TargetMode") != "External"
                path = posixpath.normpath(posixpath.join("/", folder, target.replace("\\", "/"))).lstrip("/")
                self._relations[name][node.get("Id")] = Relation(
                    name=path if inside else "", kind=node.get("Type").rpartition("/")[2], target=target
                )
        return self._relations[name]

    def related(self, name: str, kind: str) -> list[str]:
        """Return the names of the parts of one kind that a part refers to."""
        return [r.name for r in self.relations(name).values() if r.kind.lower() == kind.lower() and r.name]


def open_package(path: str, limits: ParseLimits, what: str) -> ZipMembers:
    """Open a document. what: `a Word document`. Raises ParseError for one that is encrypted, old or no archive."""
    with open(path, "rb") as file:
        head = file.read(_OLE_BYTES)
    if head.startswith(_OLE):
        raise ParseError(_ole_reason(path, head))
    try:
        members = ZipMembers(path, limits.max_unpacked_bytes, what=what)
    except DAMAGE as error:
        raise ParseError(f"{what} that is damaged: it cannot be opened") from error
    if not members.names:
        members.close()
        raise ParseError(f"{what} that is damaged: nothing can be found in it")
    return members


def macro_note(package: Package) -> list[str]:
    """Return a note if the document has macros, which are not read."""
    has_macros = any(name.lower().endswith("vbaproject.bin") for name in package.names)
    return ["macros, which are programs and not text, are left out"] if has_macros else []


def merged_notes(notes: list[str]) -> tuple[str, ...]:
    """Return each note once, in order."""
    return tuple(dict.fromkeys(notes))


def _ole_reason(path: str, head: bytes) -> str:
    """Why a file in Microsoft's older container is not read."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _OLE_BYTES))
        data = head + file.read()
    if _ENCRYPTED in data:
        return "an encrypted document: open it, remove its password, save it and add it again"
    for stream, (what, suffix) in _OLD.items():
        if (stream + "\0").encode("utf-16-le") in data:
            return f"{what}, which is not read: save it as {suffix}"
    return "an old Office document, which is not read: save it as .docx, .xlsx or .pptx"

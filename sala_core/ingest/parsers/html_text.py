"""HTML and XHTML to readable text: what a reader of the page sees. Scripts, styles and navigation are left out."""

from collections.abc import Mapping

from .charset import decode_html
from .html.entities import resolve_entities
from .html.render import Page, Renderer
from .html.styles import Styles
from .html.tree import parse_tree
from .result import Parsed, ParseError, ParseLimits, normalize_text


def html_to_text(
    data: bytes | str,
    *,
    drop_navigation: bool = True,
    sheets: tuple[str, ...] = (),
    frames: Mapping[str, str] | None = None,
) -> str:
    """Return the readable text of an HTML or XHTML file: its bytes in any encoding, or its markup.

    Headings get Markdown's `#` marks; list items their number, letter or dash; a table has one line per row and ` | `
    between cells. Formulas, superscripts, pictures' alternative texts and what is hidden until a click are included.

    Args:
        data: the file or its markup.
        drop_navigation: leave out `nav` elements and navigation roles, unless there is nothing else, and use the page's
            title as heading if it has no `h1`.
        sheets: texts of its style sheets outside of it.
        frames: address -> markup of pages that were saved with it, and that are shown in its frames.
    """
    markup = resolve_entities(data if isinstance(data, str) else decode_html(data)[0])
    root = parse_tree(markup)
    styles = Styles(*sheets, *(element.text() for element in root.find_all("style")))
    page = Page(has_tex_scripts="math/tex" in markup, styles=styles, frames=frames or {})
    renderer = Renderer(page, drop_navigation=drop_navigation)
    head = root.find("head") or root
    title = head.find("title", "svg")  # the titles inside of drawings are others
    heading = title.text().strip() if title and title.name == "title" else ""
    if drop_navigation and heading and not root.find("h1"):
        renderer.writer.words("# " + heading)
        renderer.writer.line(2)
    num_title = len(renderer.writer.result())
    renderer.render(root.children)
    text = renderer.writer.result()
    if drop_navigation and len(text) == num_title:
        renderer = Renderer(page, drop_navigation=False)
        renderer.render(root.children)
        text += renderer.writer.result()
    return normalize_text(text)


def parse_html(path: str, limits: ParseLimits) -> Parsed:
    """Return the readable text of a file. Raises ParseError if there is none or the file is too large."""
    with open(path, "rb") as file:
        data = file.read(limits.max_text_bytes + 1)
    if len(data) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of HTML")
    markup, notes = decode_html(data)
    text = html_to_text(markup)
    if not text:
        has_scripts = "<script" in markup.lower()
        raise ParseError("no readable text in it" + (": its scripts would load it" if has_scripts else ""))
    return Parsed(text=text, warnings=notes)

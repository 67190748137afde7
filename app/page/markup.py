"""HTML from untrusted text: names, passages, messages.

Panels are HTML built here from escaped text and shown through `gr.Markdown`: one `div` on one line, which its parser
leaves as it is, and which it sanitizes again. The conversation travels as text (`carrier`), so that no parser of the
browser but that of HTML ever sees it; `talk.js` shows it.
"""

from __future__ import annotations

import html

_LINE = str.maketrans({"\r": "", "\n": "&#10;", "\t": "&#9;", "$": "&#36;"})


def escape(text: str) -> str:
    """Text for the inside of an element or a quoted attribute.

    Newlines become entities, so that a blank line cannot end the HTML block in the Markdown around it. So do dollar
    signs, which could begin a formula, and tabs, which Gradio would expand.
    """
    return html.escape(text, quote=True).translate(_LINE)


def tag(name: str, *children: str, **attributes: str) -> str:
    """An element. `children` are HTML, attribute values are plain text. `class_` stands for `class`."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def block(*children: str, class_: str) -> str:
    """A panel's whole HTML: one `div` on one line, which Markdown leaves as it is."""
    return tag("div", *children, class_=class_)


def carrier(html_text: str) -> str:
    """HTML as the text of a hidden element, from which `talk.js` takes it; '' for nothing to show."""
    return block(escape(html_text), class_="carrier") if html_text else ""

"""The theme of the page, and the options it is mounted with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from app.page.layout.regions import layout_script
from sala_core.assets import ASSETS
from sala_core.errors import SalaError

_PAGE = ASSETS / "page"
STYLES = (
    *("page.css", "layout.css", "nav.css", "head.css", "talk.css", "text.css"),
    *("turns.css", "side.css", "source.css", "source_pages.css", "attention_map.css", "dialogs.css", "sessions.css"),
    *("plan.css", "plan_tree.css", "questions.css", "narrow.css"),
)
SCRIPTS = (
    *("layout.js", "keys.js", "announce.js", "page.js", "door.js", "talk.js", "turns.js"),
    *(
        "source_list.js",
        "source_text.js",
        "source_pages.js",
        "attention_map.js",
        "source_controls.js",
        "source_viewer.js",
        "source_openers.js",
    ),
    *("found_files.js", "plan_tree.js", "reading_plan.js", "upload.js"),
    *("dialogs.js", "sessions.js", "engines.js", "models.js", "settings.js", "first_run.js"),
    *("questions.js", "earlier.js"),
)
_SANS = (
    "ui-sans-serif",
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Liberation Sans",
    "sans-serif",
)
_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "Liberation Mono", "monospace")


def page_theme() -> gr.themes.Base:
    """The theme: system fonts only, so that no font is fetched. Colors come from page.css."""
    theme = gr.themes.Base(
        font=[gr.themes.Font(name) for name in _SANS], font_mono=[gr.themes.Font(name) for name in _MONO]
    )
    return theme.set(
        body_background_fill="var(--paper)",
        body_background_fill_dark="var(--paper)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        background_fill_primary="var(--paper)",
        background_fill_primary_dark="var(--paper)",
        background_fill_secondary="var(--panel)",
        background_fill_secondary_dark="var(--panel)",
        border_color_primary="var(--rule)",
        border_color_primary_dark="var(--rule)",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        input_background_fill="var(--field)",
        input_background_fill_dark="var(--field)",
    )


def formula_files() -> dict[str, str]:
    """Addresses of KaTeX among Gradio's own files, relative to the page: `script` and `style`. Raises SalaError."""
    folder = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    found = {kind: sorted(folder.glob(f"katex-*.{suffix}")) for kind, suffix in (("script", "js"), ("style", "css"))}
    if any(len(files) != 1 for files in found.values()):
        raise SalaError(f"this Gradio ({gr.__version__}) brings no KaTeX; run `launch.py setup` again")
    return {kind: f"./assets/{file.name}" for kind, (file,) in found.items()}


def page_options() -> dict[str, Any]:
    """Keyword arguments for `gr.mount_gradio_app`: look and limits. Everything that contacts other hosts is off."""
    scripts = [f"window.salaFormulas = {json.dumps(formula_files())};", layout_script()]
    scripts += [(_PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return {
        "theme": page_theme(),
        "css_paths": [_PAGE / name for name in STYLES],
        "head": "".join(f"<script>{script}</script>" for script in scripts),
        "footer_links": [],
        "run_history": False,
        "allowed_paths": [],
        "ssr_mode": False,
        "enable_monitoring": False,
        "pwa": False,
        "mcp_server": False,
        "show_error": False,
    }

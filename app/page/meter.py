"""The meter of tokens, memory and disk, and the model's status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import wording
from app.page.markup import block, escape, tag

if TYPE_CHECKING:
    from sala_core.session.workspace import Meter, ModelInfo

REAL_MODEL = "openbmb/MiniCPM-SALA"


def meter_html(meter: Meter, *, at_work: bool = False) -> str:
    """Tokens read, of those that fit, and the memory and disk in use.

    at_work: a job runs. Its progress then shows how much is unread, so the meter does not.
    """
    whole = meter.tokens_read + meter.tokens_pending + meter.tokens_free
    rows = [
        tag(
            "p",
            tag("strong", wording.short_count(meter.tokens_read)),
            " tokens read",
            tag("span", f"{wording.short_count(meter.tokens_free)} free"),
            class_="meter-line",
        ),
        f'<meter min="0" max="{max(whole, 1)}" value="{meter.tokens_read}" aria-label="Tokens read"></meter>',
    ]
    if meter.tokens_pending and not at_work:
        rows.append(tag("p", f"{wording.count(meter.tokens_pending)} tokens wait to be read", class_="meter-note"))
    sizes = (
        ("Memory", meter.process_bytes),
        ("Session", meter.state_bytes),
        ("Library", meter.library_bytes),
    )
    rows.append(
        tag(
            "dl",
            *(tag("div", tag("dt", name), tag("dd", wording.size(num_bytes))) for name, num_bytes in sizes),
        )
    )
    return block(*rows, class_="meter")


def model_html(info: ModelInfo) -> str:
    """One line about the model: its name, its device, and whether it is ready."""
    words = {"loading": "loading", "ready": "ready", "failed": "could not be loaded"}
    detail = f"{info.device} · {info.dtype}" if info.status == "ready" else words.get(info.status, info.status)
    if info.kernels is not None:
        detail = wording.compiling(info.kernels.kernels_done, info.kernels.kernels_total)
    return block(
        tag("span", class_=f"dot dot-{'ready' if info.status == 'ready' else 'wait'}"),
        tag("span", escape(info.name), class_="model-name"),
        tag("span", escape(detail), class_="model-detail"),
        class_="model",
    )


def banner_html(info: ModelInfo) -> str:
    """The notes about the device and a demonstration model, or about a model that failed to load; else ''."""
    if info.status == "failed":
        return block(
            tag(
                "p",
                tag("strong", "The model could not be loaded. "),
                escape(info.error or "No reason was given."),
            ),
            class_="banner banner-error",
        )
    note = block(tag("p", escape(info.device_note)), class_="banner") if info.device_note else ""
    if not info.is_demonstration:
        return note
    steps = tag(
        "ol",
        tag("li", "Download it once: ", tag("code", f"python3 launch.py download {REAL_MODEL}")),
        tag("li", "Start with it: ", tag("code", f"python3 launch.py --model {REAL_MODEL}")),
    )
    return note + block(
        tag(
            "details",
            tag(
                "summary",
                tag("strong", "This is a small demonstration model. "),
                "It shows how reading and evidence work; its answers are often wrong. ",
                tag("span", "How to get the real one", class_="banner-more"),
            ),
            tag("p", f"The full model is {REAL_MODEL} (9 billion parameters, 19 GB)."),
            steps,
        ),
        class_="banner",
    )

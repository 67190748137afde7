"""The meter of tokens, memory and disk, and the model's status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import wording
from app.page.markup import block, escape, tag

if TYPE_CHECKING:
    from sala_core.session.workspace import Meter, ModelInfo

_SAVED = "Each opening from disk: what this machine takes to read as many tokens, less what opening took"


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
            tag("span", f"of {wording.short_count(whole)}"),
            class_="meter-line",
        ),
        f'<meter min="0" max="{max(whole, 1)}" value="{meter.tokens_read}" aria-label="Tokens read"></meter>',
    ]
    if meter.tokens_pending and not at_work:
        rows.append(tag("p", f"{wording.count(meter.tokens_pending)} tokens wait to be read", class_="meter-note"))
    used = meter.used
    counts = (
        ("Documents", used.documents),
        ("Conversation", used.conversation),
        ("Thinking", used.thinking),
        ("Free", meter.tokens_free),
    )
    sizes = (
        ("Memory", meter.process_bytes),
        ("Session on disk", meter.state_bytes),
        ("Library", meter.library_bytes),
    )
    rows.append(_facts([(name, wording.short_count(number)) for name, number in counts], "meter-tokens"))
    rows.append(_facts([(name, wording.size(num_bytes)) for name, num_bytes in sizes], "meter-bytes"))
    if saved := wording.saved_reading(meter.saved_s):
        rows.append(tag("p", saved, title=_SAVED, class_="meter-saved"))
    return block(*rows, class_="meter")


def _facts(facts: list[tuple[str, str]], class_: str) -> str:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_=class_)


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
        tag("span", escape(f"· answers: {info.writer}"), class_="model-detail") if info.writer else "",
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
    note = block(tag("p", escape(info.switch_failure)), class_="banner banner-error") if info.switch_failure else ""
    note += block(tag("p", escape(info.device_note)), class_="banner") if info.device_note else ""
    if not info.is_demonstration:
        return note
    choose = tag("button", "Choose a larger model", type="button", class_="open-models")
    words = "It finds and quotes sentences of your documents; it does not summarize or reason. "
    about = tag("span", words, class_="banner-detail")
    return note + block(
        tag("p", tag("strong", "This is a small demonstration model. "), about, choose),
        class_="banner",
    )

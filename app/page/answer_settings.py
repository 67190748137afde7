"""How answers are chosen: the reader's settings, kept in the library's folder, and the panel that changes them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag
from sala_core.errors import LibraryError, SalaError

if TYPE_CHECKING:
    from sala_core.engine.sampling import SamplingParams

FILE = "answers.json"
MAX_TEMPERATURE = 2.0
MAX_ANSWER_TOKENS = 100_000
MAX_SEED = 2**63 - 1
_QUOTATIONS: dict[bool | None, str] = {None: "", True: "Word for word", False: "In its own words"}
_HINT = (
    "An empty field leaves it to the model, whose own value is shown in grey; without a seed each answer is another. "
    "Quotations word for word are sentences of your documents, each time the one that the model looked at most. "
    "What you save holds from the next question on, in every session."
)


class SettingsError(SalaError):
    """A setting that cannot be used; the message says which, and what would do."""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """What the reader has set; None leaves it to the model, or to chance for the seed."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    verbatim: bool | None = None

    def __post_init__(self) -> None:
        """Raises SettingsError for a value out of range."""
        _check("Temperature", self.temperature, 0, MAX_TEMPERATURE, "a number from 0 to 2")
        _check("Top-p", self.top_p, 0.01, 1, "a number from 0.01 to 1")
        longest = f"a whole number from 1 to {MAX_ANSWER_TOKENS:,}"
        _check("Longest answer", self.max_tokens, 1, MAX_ANSWER_TOKENS, longest, kind=int)
        _check("Seed", self.seed, 0, MAX_SEED, "a whole number from 0 to 2^63 - 1, or nothing", kind=int)
        if self.verbatim not in _QUOTATIONS:
            raise SettingsError(f"Quotations must be true or false, not {self.verbatim}.")

    @classmethod
    def from_texts(
        cls, temperature: str, top_p: str, max_tokens: str, seed: str, quotations: str = ""
    ) -> AnswerSettings:
        """What was typed into the four fields, and chosen of `quotation_choices`. Raises SettingsError."""
        return cls(
            temperature=_parse("Temperature", temperature, _decimal, "a number from 0 to 2"),
            top_p=_parse("Top-p", top_p, _decimal, "a number from 0.01 to 1"),
            max_tokens=_parse("Longest answer", max_tokens, _whole, "a whole number of tokens"),
            seed=_parse("Seed", seed, _whole, "a whole number, or nothing"),
            verbatim=next(value for value, name in _QUOTATIONS.items() if name == quotations),
        )

    @property
    def changes(self) -> dict[str, float | int | bool]:
        """What differs from the model's own, as fields of SamplingParams."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def texts(self) -> list[str]:
        """What stands in the four fields, and what is chosen of `quotation_choices`."""
        values = (self.temperature, self.top_p, self.max_tokens, self.seed)
        return [*("" if value is None else _written(value) for value in values), _QUOTATIONS[self.verbatim]]


def load_settings(folder: Path) -> AnswerSettings:
    """The settings kept in a library's folder; none where there are none or they cannot be used."""
    try:
        raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {field.name for field in fields(AnswerSettings)}
        return AnswerSettings(**{name: value for name, value in raw.items() if name in known})
    except (OSError, ValueError, AttributeError, TypeError, SettingsError):
        return AnswerSettings()


def save_settings(folder: Path, settings: AnswerSettings) -> None:
    """Keep the settings; a crash leaves the old ones or the new. Raises LibraryError."""
    file = ""
    try:
        number, file = tempfile.mkstemp(dir=folder, prefix=".answers-")
        with os.fdopen(number, "w", encoding="utf-8") as out:
            json.dump(settings.changes, out)
        os.replace(file, folder / FILE)
    except OSError as error:
        if file:
            with suppress(OSError):
                os.unlink(file)
        raise LibraryError(f"the settings could not be kept in {folder}: {error.strerror or error}") from error


@dataclass(frozen=True, kw_only=True)
class SettingsPanel:
    """The form above the question box."""

    form: gr.Column
    temperature: gr.Textbox
    top_p: gr.Textbox
    max_tokens: gr.Textbox
    seed: gr.Textbox
    quotations: gr.Radio
    trouble: gr.Markdown
    save: gr.Button
    reset: gr.Button
    close: gr.Button

    @property
    def fields(self) -> list[gr.Textbox]:
        """The four fields, in the order of `AnswerSettings.texts`, which has the quotations last."""
        return [self.temperature, self.top_p, self.max_tokens, self.seed]


def build() -> SettingsPanel:
    """Lay out the form, closed."""
    with gr.Column(elem_id="settings-form", elem_classes="form-card", visible=False) as form:
        gr.Markdown("## Answer settings", elem_classes="panel-heading")
        with gr.Row(elem_id="settings-fields"):
            temperature = _field("Temperature", "temperature")
            top_p = _field("Top-p", "top-p")
            max_tokens = _field("Longest answer", "max-tokens")
            seed = _field("Seed", "seed")
        quotations = gr.Radio(quotation_choices(None), label="Quotations", elem_id="set-quotations")
        trouble = gr.Markdown("", elem_id="settings-trouble", latex_delimiters=[])
        gr.Markdown(block(_HINT, class_="hint"), latex_delimiters=[])
        with gr.Row(elem_classes="form-buttons"):
            save = gr.Button("Save", variant="primary", size="sm", scale=0, min_width=72, elem_id="save-settings")
            reset = gr.Button("The model’s own", size="sm", scale=0, min_width=72, elem_id="reset-settings")
            close = gr.Button("Cancel", size="sm", scale=0, min_width=72, elem_id="close-settings")
    return SettingsPanel(
        form=form,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        quotations=quotations,
        trouble=trouble,
        save=save,
        reset=reset,
        close=close,
    )


def _field(label: str, name: str) -> gr.Textbox:
    return gr.Textbox(label=label, max_length=40, container=True, elem_id=f"set-{name}", min_width=120)


def placeholders(defaults: SamplingParams | None) -> list[str]:
    """What stands in grey in the four fields: the model's own values, as far as they are known."""
    if defaults is None:
        return ["its own"] * 3 + ["random"]
    longest = wording.plural(defaults.max_tokens, "token")
    return [_written(defaults.temperature), _written(defaults.top_p), longest, "random"]


def quotation_choices(defaults: SamplingParams | None) -> list[tuple[str, str]]:
    """How quotations may be made: what is shown, and its text in AnswerSettings.texts."""
    own = "its own" if defaults is None else _QUOTATIONS[defaults.verbatim].lower()
    return [(f"As the model has it ({own})", ""), *((name, name) for name in _QUOTATIONS.values() if name)]


def trouble_html(words: str) -> str:
    """What is wrong with what was typed; '' where nothing is."""
    return tag("div", escape(words), class_="trouble", role="alert") if words else ""


def note_html(settings: AnswerSettings) -> str:
    """One line on what is set, below the question box; '' where all is the model's own."""
    words = []
    if settings.temperature is not None:
        words.append(f"temperature {_written(settings.temperature)}")
    if settings.top_p is not None:
        words.append(f"top-p {_written(settings.top_p)}")
    if settings.max_tokens is not None:
        words.append(f"at most {wording.plural(settings.max_tokens, 'token')}")
    if settings.seed is not None:
        words.append(f"seed {settings.seed}")
    if settings.verbatim is not None:
        words.append(f"quotations {_QUOTATIONS[settings.verbatim].lower()}")
    return block(escape("Answers with " + " · ".join(words)), class_="hint") if words else ""


def _parse(name: str, text: str, read: Callable[[str], Any], wanted: str) -> Any:
    text = text.strip()
    try:
        return read(text) if text else None
    except ValueError:
        raise SettingsError(f"{name} must be {wanted}; “{text[:40]}” is none.") from None


def _decimal(text: str) -> float:
    return float(text.replace(",", "."))


def _whole(text: str) -> int:
    return int(text.lower().removesuffix("s").removesuffix("token").replace(",", "").replace(" ", ""))


def _check(name: str, value: Any, low: float, high: float, wanted: str, kind: Any = int | float) -> None:
    if value is None:
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise SettingsError(f"{name} must be {wanted}, not {value}.")


def _written(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

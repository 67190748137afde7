"""The user's answer settings: how they are checked and stored in the library's folder, and the form for them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import wording
from app.grammar.ranges import MAX_TOKENS, SEED, TEMPERATURE, THINKING_BUDGET, TOP_P, Range
from app.page.markup import block, escape
from sala_core.errors import LibraryError, SettingsError

if TYPE_CHECKING:
    from sala_core.engine.sampling import SamplingParams
    from sala_core.session.workspace import SamplingChanges

FILE = "answers.json"
_TEMPERATURES = f"a number from {TEMPERATURE.low:g} to {TEMPERATURE.high:g}"
_TOP_PS = f"a number from {TOP_P.low:g} to {TOP_P.high:g}"
_LENGTHS = f"a whole number from {MAX_TOKENS.low} to {MAX_TOKENS.high:,}"
_BUDGETS = f"a whole number from {THINKING_BUDGET.low} to {THINKING_BUDGET.high:,}"
_SEEDS = "a whole number from 0 to 2^63 - 1, or nothing"
_QUOTATIONS: dict[bool | None, str] = {None: "", True: "Word for word", False: "In its own words"}
_THINKING: dict[bool | None, str] = {None: "", True: "Think first", False: "Answer at once"}


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """What the user has set. None: the model's own value, and for the seed a random one."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    verbatim: bool | None = None
    think: bool | None = None
    thinking_budget: int | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError for a value out of range."""
        _check("Temperature", self.temperature, TEMPERATURE, _TEMPERATURES)
        _check("Top-p", self.top_p, TOP_P, _TOP_PS)
        _check("Longest answer", self.max_tokens, MAX_TOKENS, _LENGTHS, kind=int)
        _check("Seed", self.seed, SEED, _SEEDS, kind=int)
        if self.verbatim not in _QUOTATIONS:
            raise SettingsError(f"Quotations must be true or false, not {self.verbatim}.")
        if self.think not in _THINKING:
            raise SettingsError(f"Thinking must be true or false, not {self.think}.")
        _check("Longest thinking", self.thinking_budget, THINKING_BUDGET, _BUDGETS, kind=int)

    @classmethod
    def from_texts(
        cls,
        temperature: str,
        top_p: str,
        max_tokens: str,
        seed: str,
        thinking_budget: str = "",
        quotations: str = "",
        thinking: str = "",
    ) -> AnswerSettings:
        """Parse the form.

        Args:
            temperature, top_p, max_tokens, seed, thinking_budget: text of the fields; blank for None.
            quotations: value of the chosen one of `quotation_choices`.
            thinking: value of the chosen one of `thinking_choices`.

        Raises SettingsError.
        """
        return cls(
            temperature=_parse("Temperature", temperature, _decimal, _TEMPERATURES),
            top_p=_parse("Top-p", top_p, _decimal, _TOP_PS),
            max_tokens=_parse("Longest answer", max_tokens, _whole, "a whole number of tokens"),
            seed=_parse("Seed", seed, _whole, "a whole number, or nothing"),
            verbatim=next(value for value, name in _QUOTATIONS.items() if name == quotations),
            think=next(value for value, name in _THINKING.items() if name == thinking),
            thinking_budget=_parse("Longest thinking", thinking_budget, _whole, "a whole number of tokens"),
        )

    def for_model(self, *, thinks: bool) -> AnswerSettings:
        """The settings that a model can follow. thinks: whether it can think before it answers."""
        return self if thinks else replace(self, think=None, thinking_budget=None)

    @property
    def changes(self) -> SamplingChanges:
        """The settings that replace the model's own."""
        changes: SamplingChanges = {}
        if self.temperature is not None:
            changes["temperature"] = self.temperature
        if self.top_p is not None:
            changes["top_p"] = self.top_p
        if self.max_tokens is not None:
            changes["max_tokens"] = self.max_tokens
        if self.seed is not None:
            changes["seed"] = self.seed
        if self.verbatim is not None:
            changes["verbatim"] = self.verbatim
        if self.think is not None:
            changes["think"] = self.think
        if self.thinking_budget is not None:
            changes["thinking_budget"] = self.thinking_budget
        return changes

    def texts(self) -> list[str]:
        """The texts of the form, in the order in which `from_texts` takes them."""
        values = (self.temperature, self.top_p, self.max_tokens, self.seed, self.thinking_budget)
        texts = ["" if value is None else _number_text(value) for value in values]
        return [*texts, _QUOTATIONS[self.verbatim], _THINKING[self.think]]


def load_settings(folder: Path) -> AnswerSettings:
    """The settings stored in a library's folder; empty ones if there are none or they are invalid."""
    try:
        raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {field.name for field in fields(AnswerSettings)}
        return AnswerSettings(**{name: value for name, value in raw.items() if name in known})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, SettingsError):
        return AnswerSettings()


def save_settings(folder: Path, settings: AnswerSettings) -> None:
    """Store the settings atomically in a library's folder. Raises LibraryError."""
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
        raise LibraryError(f"the settings could not be saved in {folder}: {error.strerror or error}") from error


def placeholders(defaults: SamplingParams | None) -> list[str]:
    """The gray texts of the fields: the model's own values. defaults: None while the model is not loaded."""
    if defaults is None:
        return ["its own"] * 3 + ["random", "its own"]
    longest, budget = (wording.plural(number, "token") for number in (defaults.max_tokens, defaults.thinking_budget))
    return [_number_text(defaults.temperature), _number_text(defaults.top_p), longest, "random", budget]


def quotation_choices(defaults: SamplingParams | None) -> list[tuple[str, str]]:
    """(label, value) of each way to make quotations; the value is that of `AnswerSettings.texts`."""
    own = "its own" if defaults is None else _QUOTATIONS[defaults.verbatim].lower()
    return [(f"As the model has it ({own})", ""), *((name, name) for name in _QUOTATIONS.values() if name)]


def thinking_choices(by_default: bool | None) -> list[tuple[str, str]]:
    """The same for thinking. by_default: whether the model thinks where nothing is set; None if it is not loaded."""
    own = "its own" if by_default is None else _THINKING[by_default].lower()
    return [(f"As the model has it ({own})", ""), *((name, name) for name in _THINKING.values() if name)]


def note_html(settings: AnswerSettings) -> str:
    """One line below the question box that names what is set; '' where nothing is."""
    words = []
    if settings.temperature is not None:
        words.append(f"temperature {_number_text(settings.temperature)}")
    if settings.top_p is not None:
        words.append(f"top-p {_number_text(settings.top_p)}")
    if settings.max_tokens is not None:
        words.append(f"at most {wording.plural(settings.max_tokens, 'token')}")
    if settings.seed is not None:
        words.append(f"seed {settings.seed}")
    if settings.verbatim is not None:
        words.append(f"quotations {_QUOTATIONS[settings.verbatim].lower()}")
    if settings.think is not None:
        words.append("thinking" if settings.think else "no thinking")
    if settings.thinking_budget is not None:
        words.append(f"at most {wording.plural(settings.thinking_budget, 'token')} of thinking")
    return block(escape("Answers with " + " · ".join(words)), class_="hint") if words else ""


def _parse(name: str, text: str, convert: Callable[[str], Any], expected: str) -> Any:
    text = text.strip()
    try:
        return convert(text) if text else None
    except ValueError:
        raise SettingsError(f"{name} must be {expected}; “{text[:40]}” is none.") from None


def _decimal(text: str) -> float:
    return float(text.replace(",", "."))


def _whole(text: str) -> int:
    return int(text.lower().removesuffix("s").removesuffix("token").replace(",", "").replace(" ", ""))


def _check(name: str, value: Any, allowed: Range[Any], expected: str, kind: Any = int | float) -> None:
    if value is None:
        return
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not allowed.low <= value <= allowed.high:
        raise SettingsError(f"{name} must be {expected}, not {value}.")


def _number_text(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

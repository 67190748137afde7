"""The command line and the page accept exactly their ranges, and the engine accepts every value in them."""

import math

import pytest

from app.grammar.parser import parse
from app.grammar.ranges import (
    EVAL_MAX_TOKENS,
    MAX_TOKENS,
    SEED,
    TEMPERATURE,
    THINKING_BUDGET,
    TOP_P,
)
from app.page.answer_settings import AnswerSettings
from sala_core import SamplingParams
from sala_core.errors import SettingsError


def outside(allowed):
    """The nearest numbers below and above a range."""
    if isinstance(allowed.low, int):
        return allowed.low - 1, allowed.high + 1
    return math.nextafter(allowed.low, -math.inf), math.nextafter(allowed.high, math.inf)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("temperature", TEMPERATURE),
        ("top_p", TOP_P),
        ("max_tokens", MAX_TOKENS),
        ("max_tokens", EVAL_MAX_TOKENS),
        ("thinking_budget", THINKING_BUDGET),
        ("seed", SEED),
    ],
)
def test_the_engine_accepts_both_ends(name, allowed):
    for value in allowed:
        assert getattr(SamplingParams(**{name: value}), name) == value


def test_the_engine_takes_no_other_seeds():
    for value in outside(SEED):
        with pytest.raises(ValueError, match="seed"):
            SamplingParams(seed=value)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("temperature", TEMPERATURE),
        ("top_p", TOP_P),
        ("max_tokens", MAX_TOKENS),
        ("thinking_budget", THINKING_BUDGET),
        ("seed", SEED),
    ],
)
def test_the_page_accepts_its_range_and_nothing_outside(name, allowed):
    for value in allowed:
        assert AnswerSettings(**{name: value}).changes == {name: value}
    for value in outside(allowed):
        with pytest.raises(SettingsError):
            AnswerSettings(**{name: value})


@pytest.mark.parametrize(
    ("command", "option", "allowed"),
    [
        (["ask", "novel", "Who?"], "--temperature", TEMPERATURE),
        (["ask", "novel", "Who?"], "--top-p", TOP_P),
        (["ask", "novel", "Who?"], "--max-tokens", MAX_TOKENS),
        (["ask", "novel", "Who?"], "--thinking-budget", THINKING_BUDGET),
        (["ask", "novel", "Who?"], "--seed", SEED),
        (["eval", "ruler"], "--max-tokens", EVAL_MAX_TOKENS),
        (["eval", "ruler"], "--seed", SEED),
    ],
)
def test_the_command_line_accepts_its_range_and_nothing_outside(command, option, allowed):
    name = option.removeprefix("--").replace("-", "_")
    for value in allowed:
        arguments = parse([*command, option, repr(value)])
        assert getattr(arguments.eval or arguments, name) == value
    for value in outside(allowed):
        with pytest.raises(SystemExit):
            parse([*command, f"{option}={value!r}"])

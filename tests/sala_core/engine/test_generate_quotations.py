"""Answers that consist of quotations: they end after the last one, whatever the model would write then."""

import itertools

import pytest
from reading_helpers import tokens_in
from scripted_model import in_turn, script_model

from sala_core import SamplingParams
from sala_core.engine.decode import MAX_PASS_TOKENS
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = [5, 6, 7]


class Quoting:
    """Quotes the same tokens each time."""

    def __init__(self, mark, quoted):
        self.mark, self.quoted, self.asked = mark, quoted, 0

    def opens_quotation(self, token):
        return token == self.mark

    def continuation(self, opening, trace):
        self.asked += 1
        return list(self.quoted)


def answer_of(engine, monkeypatch, quoting, script, *, only):
    script_model(monkeypatch, engine, in_turn(engine, script, ()))
    params = SamplingParams(temperature=0, only_quotes=only, stop_repetition=False)
    events = list(engine.generate(engine.new_state(), PROMPT, params, trace=AttentionTrace(), quoting=quoting))
    return tokens_in(events), events[-1].reason


@pytest.mark.parametrize("num_tokens", range(2, 2 * MAX_PASS_TOKENS + 3))
def test_an_answer_of_quotations_ends_after_the_last_one(talking_engine, monkeypatch, num_tokens):
    """However many passes a quotation takes, its closing mark opens no other one."""
    encode = talking_engine.tokenizer.encode_content
    (mark,), other = encode('"').tolist(), encode(" the king said").tolist()
    quoted = [*itertools.islice(itertools.cycle(encode(" tale").tolist()), num_tokens - 1), mark]
    whole = [mark, *quoted]
    for only, script, said, asked in (
        (True, [*whole, *other], whole, 1),
        (True, [*whole, *whole, *other], whole * 2, 2),
        (True, [*other, *whole, *other], [*other, *whole], 1),
        (False, [*whole, *other], [*whole, *other], 1),
    ):
        quoting = Quoting(mark, quoted)
        assert answer_of(talking_engine, monkeypatch, quoting, script, only=only) == (said, "stop")
        assert quoting.asked == asked

"""A turn of a model that only finds: its answer is what was found, and is part of the conversation like any other."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest
from reading_helpers import FERRY, GREEDY, last

from sala_core.events import Answer, PromptProgress
from sala_core.evidence import finding
from sala_core.evidence.finding import NEAREST, NOTHING_READ, WHAT_IT_CAN_DO
from sala_core.finder.ranking import fitted
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("one_thread")

FINDS = replace(GREEDY, verbatim=True, only_quotes=True, max_tokens=512)


def ask(session, question, sampling=FINDS) -> Answer:
    return last(session.ask(question, sampling))


def test_a_sentence_is_the_answer_and_its_tokens_are_in_the_stream(session, library, talking_engine):
    before = session.row.num_tokens

    answer = ask(session, "What is the ferryman of Tavelun called?")

    assert answer.text == '"The ferryman of Tavelun is called Osrik."'
    assert answer.confidence is not None
    assert answer.confidence >= fitted().threshold
    assert [item.text for item in answer.quotations] == [answer.text.strip('"')]
    assert answer.evidence[0].document == "town.txt"
    assert answer.finish_reason == "stop"
    ids = library.token_ids(session.row.id, before, session.row.num_tokens)
    assert answer.text in talking_engine.tokenizer.decode(ids.tolist())
    assert answer.tokens_generated == len(talking_engine.tokenizer.encode_content(answer.text))


def test_what_it_says_is_kept_with_its_confidence(session, library):
    ask(session, "Does anybody eat soup on mondays in Tavelun?")

    question, answer = library.messages(session.row.id)
    assert question.text == "Does anybody eat soup on mondays in Tavelun?"
    assert answer.text.startswith(NEAREST)
    assert answer.stats is not None
    assert answer.stats.confidence is not None
    assert answer.stats.confidence < fitted().threshold
    assert 1 <= len(answer.stats.quotations) <= 3


def test_a_greeting_reads_no_quotation(session):
    answer = ask(session, "Thanks!")

    assert (answer.text, answer.quotations, answer.evidence) == (WHAT_IT_CAN_DO, (), ())


def test_a_pronoun_goes_back_to_the_turn_before(session):
    ask(session, "What is the ferryman of Tavelun called?")

    assert "never rows at night" in ask(session, "What does he never do at night?").text


def test_while_the_model_reads_the_whole_text_is_searched(library, talking_engine, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(finding, "Finder", lambda texts, make=finding.Finder: made.append(texts) or make(texts))
    monkeypatch.setattr(finding, "_LAST", finding._LastFinder())
    (tmp_path / "long.txt").write_text("Nothing else happens here. " * 1500 + FERRY, encoding="utf-8")
    with Session.open(library, talking_engine, "long", create=True) as session:
        reading = session.read([tmp_path / "long.txt"])
        next(event for event in reading if getattr(event, "phase", "") == "reading" and session.can_ask_meanwhile)
        answer = last(session.ask_meanwhile("What is the ferryman of Tavelun called?", FINDS))
        assert answer.text == '"The ferryman of Tavelun is called Osrik."'
        assert answer.read_so_far is None
        last(reading)
        assert ask(session, "What is the ferryman of Tavelun called?").text == answer.text
    assert len(made) == 1, "the same index serves once all is read"


def test_a_session_without_documents_says_so(library, talking_engine):
    with Session.open(library, talking_engine, "empty", create=True) as session:
        assert ask(session, "What is the ferryman called?").text == NOTHING_READ


def test_the_longest_answer_is_kept_to_at_a_word(session):
    answer = ask(session, "What is the ferryman of Tavelun called?", replace(FINDS, max_tokens=6))

    assert answer.finish_reason == "length"
    assert '"The ferryman of Tavelun is called Osrik."'.startswith(answer.text)
    assert answer.tokens_generated <= 6
    assert answer.text[-1].isalpha()


def test_stopped_before_the_answer_nothing_is_kept(session, library):
    stops = []
    for event in session.ask("What is the ferryman called?", FINDS, should_stop=lambda: bool(stops)):
        if isinstance(event, PromptProgress):
            stops.append(True)

    assert library.messages(session.row.id) == []


def test_a_model_that_writes_is_asked_as_before(session):
    answer = ask(session, "What is the ferryman of Tavelun called?", replace(FINDS, only_quotes=False, max_tokens=8))

    assert answer.confidence is None


def test_the_index_is_made_once_while_the_state_is_restored(library, session, talking_engine, monkeypatch):
    made = []

    class Counted(finding.Finder):
        def __init__(self, texts):
            made.append(threading.current_thread().name)
            super().__init__(texts)

    monkeypatch.setattr(finding, "Finder", Counted)
    monkeypatch.setattr(finding, "_LAST", finding._LastFinder())
    session.state.forget()

    assert ask(session, "What is the ferryman of Tavelun called?").text.startswith('"The ferryman')

    assert made == ["index"]


def test_a_damaged_text_is_mended_by_the_turn_and_not_by_the_thread(library, session, monkeypatch):
    monkeypatch.setattr(finding, "_LAST", finding._LastFinder())
    (document,) = library.documents(session.row.id)
    file = next((library.folder / "documents").rglob(f"*{document.id}*"))
    file.write_bytes(b"damaged")
    session.state.forget()

    answer = ask(session, "What is the ferryman of Tavelun called?")

    assert answer.text.startswith('"The ferryman')
    assert any("town.txt" in warning for warning in answer.warnings)


@pytest.mark.parametrize("sampling", [FINDS, replace(GREEDY, verbatim=True)], ids=["found", "written"])
def test_a_state_goes_with_its_session_and_does_not_wait_for_the_collector(library, talking_engine, session, sampling):
    gc.collect()
    gc.disable()
    try:
        with Session.open(library, talking_engine, library.fork_session(session.row.id, "copy").id) as copy:
            last(copy.ask("What is the ferryman of Tavelun called?", sampling))
            state = weakref.ref(copy.state.state)
        del copy
        assert state() is None
    finally:
        gc.enable()

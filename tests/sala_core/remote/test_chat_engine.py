"""What an engine is sent and what comes of its answer; and every way in which a server can fail."""

import threading
import time
from dataclasses import replace

import pytest
from engine_server import DONE, WORDS, EngineServer, chunk, running, usage, words
from remote_helpers import LINE, Given, text_of

from sala_core.errors import (
    EngineChangedError,
    EngineContextError,
    EngineError,
    EngineFailedError,
    EngineRefusedError,
    EngineUnreachableError,
)
from sala_core.events import PromptProgress
from sala_core.remote.access import Access
from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice
from sala_core.remote.engine import EngineAnswer, EngineSettings, PastTurn, Written
from sala_core.remote.server import Patience
from sala_core.stopping import never
from sala_core.written_by import WrittenBy


@pytest.fixture
def server():
    with running() as state:
        yield state


def engine_of(server: EngineServer, **options) -> ChatEngine:
    return ChatEngine(EngineChoice(access=Access.of(server.url, server.key), **options))


def ask(engine: ChatEngine, given: Given | None = None, question="Who rows?", *, should_stop=never, **settings) -> list:
    events = list(engine.ask(given or Given(), question, EngineSettings(**settings), should_stop=should_stop))
    engine.close()
    return events


def test_a_long_text_is_answered_from_passages_within_the_context(server):
    given = Given(turns=[PastTurn(id="1", question="Where?", answer="At Tavelun.")])
    events = ask(engine_of(server), given, "Who rows it?")

    assert isinstance(events[0], PromptProgress)
    end = events[-1]
    assert isinstance(end, EngineAnswer)
    assert text_of(events) == "".join(WORDS)
    assert end.written_by == WrittenBy(
        engine="toy",
        address=f"127.0.0.1:{server.port}",
        basis="passages",
        passages=len(end.passages),
        tokens_again=900,
        tokens_reused=None,
    )
    assert 1 < len(end.passages) < 14, "2,048 tokens have no room for all"
    body = server.asked[0]
    assert body["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    last = body["messages"][-1]["content"]
    assert last.endswith("Question: Who rows it?")
    assert "[1] town.txt, line 1\nPassage 1." in last
    sent = sum(len(message["content"]) for message in body["messages"])
    assert sent / 3 + body["max_tokens"] < 2048


def test_a_text_that_fits_is_sent_whole_with_its_bytes_before_every_question(server):
    server.models[0]["max_model_len"] = 32768
    given = Given()
    engine = engine_of(server)
    first = list(engine.ask(given, "Who rows?", EngineSettings(), should_stop=never))[-1]
    given.turns.append(PastTurn(id="1", question="Who rows?", answer="He.", written_by=first.written_by))
    ask(engine, given)

    assert first.written_by.basis == "text"
    assert first.passages == ()
    assert given.asked_for == 0, "nothing is searched where all of it is sent"
    one, two = (body["messages"] for body in server.asked)
    assert two[0] == one[0], "the text and the first question are the same bytes"
    assert one[0]["content"].endswith("Question: Who rows?")
    assert given.text in one[0]["content"]
    assert [message["role"] for message in two] == ["user", "assistant", "user"]


def test_what_the_user_wants_to_be_sent_is_sent_or_refused(server):
    with pytest.raises(EngineContextError, match="--engine-sends passages"):
        ask(engine_of(server, sends="text"))
    server.models[0]["max_model_len"] = 32768
    assert ask(engine_of(server, sends="passages"))[-1].written_by.basis == "passages"
    assert ask(engine_of(server, context_tokens=2048))[-1].written_by.basis == "passages"


def test_tokens_are_counted_by_a_server_that_can(server):
    server.models = [{"id": "toy", "owned_by": "vllm", "max_model_len": 12000}]
    server.on_post = lambda state, path, body: {"count": len(body["prompt"].split())} if path == "/tokenize" else None
    assert ask(engine_of(server))[-1].written_by.basis == "text", "6,500 words; the estimate would be 13,000"
    server.on_post = None
    assert ask(engine_of(server))[-1].written_by.basis == "passages", "a server that cannot count is estimated"


def test_what_was_read_again_is_told_and_a_text_read_twice_once(server):
    server.models[0]["max_model_len"] = 32768
    server.events = words(prompt=9000, cached=0)
    given, told = Given(), []
    for number in range(4):
        end = ask(engine_of(server), given)[-1]
        assert (end.written_by.tokens_again, end.written_by.tokens_reused) == (9000, 0)
        told.append(any("kept nothing" in warning for warning in end.warnings))
        given.turns.append(PastTurn(id=str(number), question="Q", answer="A", written_by=end.written_by))
    assert told == [False, True, False, False]
    assert "read again for each" in engine_of(server).note_before(given), "said before the next one is sent"
    server.events = words(prompt=9000, cached=8900)
    end = ask(engine_of(server), given)[-1]
    assert (end.written_by.tokens_again, end.written_by.tokens_reused) == (100, 8900)


def test_a_prompt_that_the_server_has_cut_silently_is_told(server):
    server.events = words(prompt=100)
    assert "cuts what is too long without a word" in " ".join(ask(engine_of(server))[-1].warnings)


def test_a_request_that_is_too_long_is_made_anew_once_within_the_limit_that_the_refusal_names(server):
    del server.models[0]["max_model_len"]
    server.max_chars = 4000
    server.body = (
        '{"error": {"message": "This model\'s maximum context length is 1000 tokens. However, you requested 5000", '
        '"code": "context_length_exceeded"}}'
    )
    events = ask(engine_of(server))
    assert len(server.asked) == 2
    assert events[-1].written_by.basis == "passages"
    assert len(events[-1].passages) < 14
    server.max_chars = 10
    with pytest.raises(EngineContextError, match="1,000 tokens"):
        ask(engine_of(server))
    assert len(server.asked) == 4


def test_settings_that_are_not_set_are_left_to_the_engine(server):
    ask(engine_of(server))
    ask(engine_of(server), temperature=0.7, top_p=0.9, seed=4, max_tokens=77)
    first, second = server.asked
    assert {"temperature", "top_p", "seed"}.isdisjoint(first)
    assert (second["temperature"], second["top_p"], second["seed"], second["max_tokens"]) == (0.7, 0.9, 4, 77)
    assert "no setting for thinking" in " ".join(ask(engine_of(server), think=True)[-1].warnings)


def test_thinking_comes_apart_from_the_answer(server):
    thought = 'data: {"choices": [{"delta": {"reasoning_content": "Hm. "}}]}\n\n'
    server.events = [thought, chunk("<thi"), chunk("nk>Well"), chunk("</think>Yes."), chunk(reason="stop"), DONE]
    events = ask(engine_of(server))
    assert [(e.text, e.thinking) for e in events if isinstance(e, Written)][:1] == [("Hm. ", True)]
    assert "".join(e.text for e in events if isinstance(e, Written) and not e.thinking) == "Yes."


def test_comments_separators_inside_text_and_a_missing_end_are_understood(server):
    server.events = [": waiting\n\n", chunk("one\u2028two"), "event: x\n", chunk(" three"), DONE]
    events = ask(engine_of(server))
    assert text_of(events) == "one\u2028two three"
    assert events[-1].finish_reason == "stop"


def test_a_server_that_does_not_stream_answers_all_the_same(server):
    whole = {"model": "toy", "choices": [{"message": {"content": "All at once."}, "finish_reason": "length"}]}
    server.whole = whole
    events = ask(engine_of(server))
    assert text_of(events) == "All at once."
    assert events[-1].finish_reason == "length"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, '{"error": {"message": "bad key"}}', EngineRefusedError, "refuses the key"),
        (403, "no", EngineRefusedError, "refuses the key"),
        (404, '{"error": "model not found"}', EngineChangedError, "does not serve 'toy'"),
        (413, "<html><body>413</body></html>", EngineRefusedError, "larger than .* accepts"),
        (429, "{}", EngineRefusedError, "ask again in 7 s"),
        (302, "", EngineRefusedError, "sends on to http://evil.example"),
        (400, '{"error": {"message": "the prompt exceeds n_ctx (2048)"}}', EngineContextError, "2,048"),
        (422, '{"detail": "bad field"}', EngineRefusedError, "bad field"),
        (500, "boom", EngineFailedError, "failed .500"),
        (502, "", EngineFailedError, "failed .502"),
        (503, '{"error": {"message": "Loading model"}}', EngineFailedError, "Loading model"),
    ],
)
def test_every_refusal_has_its_message_and_is_asked_once(server, status, body, kind, words):
    server.status, server.body = status, body
    server.headers = {"Retry-After": "7", "Location": "http://evil.example/v1"}
    with pytest.raises(kind, match=words):
        ask(engine_of(server, sends="passages"))
    assert len(server.asked) == 1, "nothing is sent twice"


def test_an_error_inside_the_stream_ends_it_with_its_message(server):
    server.events = [chunk("It "), 'data: {"error": {"message": "out of memory"}}\n\n']
    with pytest.raises(EngineFailedError, match="out of memory"):
        ask(engine_of(server))
    server.events = ["data: <garbage>\n\n"]
    with pytest.raises(EngineFailedError, match="no answer"):
        ask(engine_of(server))


def test_a_stream_that_breaks_off_before_a_word_is_an_error_and_after_one_a_part_that_says_so(server):
    server.cut_after = 0
    with pytest.raises(EngineUnreachableError, match="broke off"):
        ask(engine_of(server))
    assert len(server.asked) == 1
    server.cut_after = 2
    events = ask(engine_of(server))
    assert text_of(events) == "It says "
    assert events[-1].finish_reason == "stopped"
    assert "Regenerate" in " ".join(events[-1].warnings)
    assert len(server.asked) == 2, "nothing is sent twice"


def test_a_server_that_is_silent_is_given_up_after_its_time(server, monkeypatch):
    server.hang = threading.Event()
    engine = engine_of(server)
    monkeypatch.setattr(engine, "patience", lambda tokens: Patience(first_s=0.3))
    try:
        with pytest.raises(EngineUnreachableError, match="silent"):
            ask(engine)
    finally:
        server.hang.set()


def test_the_time_it_is_given_follows_from_the_prompt_and_its_speed(server):
    engine = engine_of(server)
    before = engine.patience(1_000_000).first_s
    assert before > 6 * 3600, "a slow CPU needs hours for a million tokens"
    engine.learn_speed(100_000, 10.0)
    assert engine.patience(1_000_000).first_s < 1000
    engine.close()


def test_stop_ends_a_request_that_is_still_silent_and_closes_its_connection(server):
    server.hang = threading.Event()
    asked = time.monotonic()
    events = ask(engine_of(server), should_stop=lambda: time.monotonic() - asked > 0.3)
    server.hang.set()
    assert [type(event) for event in events] == [PromptProgress], "nothing was written, so there is no answer"


def test_stop_in_the_middle_keeps_what_was_written(server):
    server.pause_s = 0.15
    got = []
    engine = engine_of(server)
    for event in engine.ask(Given(), "Who?", EngineSettings(), should_stop=lambda: len(got) >= 2):
        got.append(event)
    engine.close()
    assert got[-1].finish_reason == "stopped"
    assert text_of(got) == "".join(WORDS)[: len(text_of(got))] != ""


def test_a_body_of_five_megabytes_arrives_once_and_whole(server):
    server.models[0]["max_model_len"] = 4_000_000
    given = Given(text=LINE * 65_000)
    ask(engine_of(server), given)
    assert server.sizes[0] > 5_000_000
    assert given.text in server.asked[0]["messages"][0]["content"]


def test_a_model_that_changes_is_refused_and_one_that_answers_as_another_is_told(server):
    engine = engine_of(server, model="toy")
    list(engine.ask(Given(), "Who?", EngineSettings(), should_stop=never))
    server.events = words(model="other")
    end = list(engine.ask(Given(), "Who?", EngineSettings(), should_stop=never))[-1]
    assert "'other'; before it was 'toy'" in " ".join(end.warnings)
    server.models = [{"id": "other"}]
    with pytest.raises(EngineChangedError, match="does not serve 'toy', but 'other'"):
        ask(engine)
    assert len(server.asked) == 2


def test_a_server_that_is_started_again_is_asked_anew_with_its_new_context():
    with running() as state:
        engine = engine_of(state)
        many = len(list(engine.ask(Given(), "Who?", EngineSettings(), should_stop=never))[-1].passages)
    with pytest.raises(EngineUnreachableError, match="no server answers"):
        list(engine.ask(Given(), "Who?", EngineSettings(), should_stop=never))
    with running(EngineServer(port=state.port, models=[{"id": "toy", "max_model_len": 1024}])) as state:
        end = ask(engine)[-1]
    assert 0 < len(end.passages) < many


def test_a_context_without_room_for_a_passage_is_told(server):
    server.models[0]["max_model_len"] = 300
    with pytest.raises(EngineContextError, match="too little for one passage"):
        ask(engine_of(server))
    given = Given()
    given.text = ""
    with pytest.raises(EngineError):
        ask(engine_of(server), type("Empty", (Given,), {"documents": []})())


def test_usage_without_a_choice_and_counts_of_llama_cpp_are_read(server):
    server.events = [chunk("Yes."), chunk(reason="stop", timings={"cache_n": 700, "prompt_n": 30}), usage(730, 2), DONE]
    by = ask(engine_of(server))[-1].written_by
    assert (by.tokens_again, by.tokens_reused) == (30, 700)


def test_an_answer_whose_quotations_are_made_up_is_not_told_again(server):
    by = WrittenBy(engine="toy", address="h", basis="passages", quotations_checked=1)
    invented = PastTurn(id="1", question="Where?", answer='"Nowhere at all."', written_by=by)
    checked = PastTurn(id="2", question="When?", answer='"At night."', written_by=replace(by, quotations_found=1))
    end = ask(engine_of(server), Given(turns=[invented, checked]), "Who rows it?")[-1]
    sent = " ".join(message["content"] for message in server.asked[0]["messages"])
    assert "Nowhere at all" not in sent
    assert "At night" in sent
    assert end.written_by.turns_left_out == 0, "it was not for want of room"


@pytest.mark.parametrize(
    ("question", "context", "is_told"),
    [("Who rows?", 2048, False), ("Does he row?", 2048, True), ("Who rows?", 32768, True)],
)
def test_a_small_engine_is_told_earlier_turns_where_the_question_refers_back(server, question, context, is_told):
    server.models[0]["max_model_len"] = context
    given = Given(turns=[PastTurn(id="1", question="Where?", answer="At Tavelun.")])
    end = ask(engine_of(server, sends="passages"), given, question)[-1]
    sent = " ".join(message["content"] for message in server.asked[0]["messages"])
    assert ("At Tavelun." in sent) == is_told
    assert end.written_by.turns_left_out == (not is_told)

"""Chats: texts that a program sends again and again are read once; nothing is appended twice; what is refused."""

import json

import httpx
import pytest
from api_server import STORY, chat, events_of, num_read, running, text_of, wait_until

from sala_core.store.sessions import SERVED

KEY, SHIP = "Who carried the brass key?", "What was the ship called?"
MIRELLE, ARGO = '"Captain Mirelle carried the brass key."', '"The ship was called Argo."'


def test_an_answer_has_its_places_and_a_second_question_costs_its_own_tokens(served):
    first = chat(served, ("system", "You help."), ("user", STORY), ("user", KEY))
    assert (text_of(first), first["usage"]["prompt_tokens_details"]["cached_tokens"]) == (MIRELLE, 0)
    (quotation,) = first["sala"]["quotations"]
    assert (quotation["lines"], quotation["word_for_word"]) == ([1, 1], True)
    annotation = first["choices"][0]["message"]["annotations"][0]
    assert (annotation["quote"], annotation["index"], annotation["filename"]) == (
        MIRELLE[1:-1],
        1,
        "The ship was called Argo. Captain Mirelle carried the brass",
    )
    second = chat(served, ("system", "You help."), ("user", STORY), ("user", SHIP))
    assert text_of(second) == ARGO
    assert num_read(second) < 25 < num_read(first)
    changed = chat(served, ("system", "You help."), ("user", STORY + "The end came late."), ("user", SHIP))
    assert text_of(changed) == ARGO


def test_a_history_that_is_sent_again_is_not_appended_again(served):
    story = STORY.replace("Argo", "Brig")
    history = [("user", story), ("user", KEY)]
    first = chat(served, *history)
    history += [("assistant", text_of(first)), ("user", SHIP)]
    second = chat(served, *history)
    assert num_read(second) < 25
    history += [("assistant", text_of(second)), ("user", KEY)]
    third = chat(served, *history)
    assert num_read(third) < 25
    library = served.workspace.library
    (own,) = [row for row in library.served_sessions() if library.session(row.id).num_messages == 6]
    assert own.num_documents == 1
    assert own.position == own.num_tokens
    again = chat(served, *history)
    assert text_of(again) == text_of(third)
    assert library.session(own.id).num_messages == 6, "an answer that is asked for again is another branch"
    assert num_read(again) < 25


def test_no_list_and_no_search_shows_what_programs_have_sent(served):
    chat(served, ("user", STORY), ("user", KEY))
    library = served.workspace.library
    assert library.served_sessions()
    assert not [row for row in library.sessions() if row.name.startswith(SERVED)]
    assert not [row for row in library.sessions("Mirelle") if row.name.startswith(SERVED)]
    names = [model["id"] for model in served.client.get("/v1/models").json()["data"]]
    assert names[0] == "embedded"
    assert not any("api:" in name for name in names)


@pytest.mark.parametrize(
    "message",
    [f"{STORY}\n\n{KEY}", f"Context:\n{STORY}\n\nQuestion: {KEY}\nAnswer:", f"{KEY}\n\n{STORY}"],
    ids=["behind", "labelled", "before"],
)
def test_a_text_and_its_question_may_stand_in_one_message(served, message):
    answer = chat(served, ("user", message))
    assert text_of(answer) == MIRELLE
    assert answer["sala"]["quotations"][0]["lines"][0] in (1, 2)


def test_a_stream_has_the_role_first_then_text_then_the_end_then_usage(served):
    body = {
        "model": "embedded",
        "messages": [{"role": "user", "content": [{"type": "text", "text": STORY}, {"type": "text", "text": SHIP}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = served.client.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    events = events_of(response)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events[:-1]) == ARGO
    assert [each["choices"][0]["finish_reason"] for each in events[:-1]] == [None] * (len(events) - 2) + ["stop"]
    assert events[-2]["sala"]["quotations"]
    assert events[-2]["choices"][0]["delta"]["annotations"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["prompt_tokens"] > 100
    assert len({each["id"] for each in events}) == 1


def test_stop_and_the_longest_answer_hold_for_a_found_sentence_too(served):
    assert text_of(chat(served, ("user", STORY), ("user", KEY), stop=["carried"])).strip() == '"Captain Mirelle'
    cut = chat(served, ("user", STORY), ("user", KEY), max_completion_tokens=4)
    assert cut["choices"][0]["finish_reason"] == "length"
    assert len(text_of(cut)) < len(MIRELLE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("n", 2),
        ("logprobs", True),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("presence_penalty", 0.5),
        ("temperature", "hot"),
        ("top_p", 0),
        ("stop", [""]),
        ("reasoning_effort", "high"),
        ("stream_options", {"other": 1}),
        ("surprise", 1),
        ("messages", []),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]),
        ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]),
    ],
)
def test_what_is_not_supported_is_refused_aloud(served, field, value):
    body = {"model": "embedded", "messages": [{"role": "user", "content": "x"}], field: value}
    response = served.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) > 10


def test_an_unknown_model_and_a_broken_body_are_told_apart(served):
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]}
    response = served.client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    for broken in (b"{", b"[" * 100_000, b"[]"):
        assert served.client.post("/v1/chat/completions", content=broken).status_code == 400
    assert served.client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert served.client.get("/v1/chat/completions").status_code == 405


def test_a_text_that_does_not_fit_is_refused_before_anything_is_read(served, monkeypatch):
    monkeypatch.setattr("sala_core.engine.memory_budget.MAX_TOKENS", 100)
    body = {"model": "embedded", "messages": [{"role": "user", "content": STORY}, {"role": "user", "content": KEY}]}
    response = served.client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_session_takes_up_its_own_conversation_and_a_difference_forks(served, voyage):
    model, library = f"sala/{voyage}", served.workspace.library
    first = chat(served, ("user", KEY), model=model)
    assert (text_of(first), library.session(voyage).num_messages) == (MIRELLE, 2)
    history = [("user", KEY), ("assistant", text_of(first)), ("user", SHIP)]
    second = chat(served, *history, model=model)
    assert (text_of(second), library.session(voyage).num_messages) == (ARGO, 4)
    other = chat(served, *history, model=model)
    assert (text_of(other), num_read(other) < 25) == (ARGO, True)
    fresh = chat(served, ("system", "Be brief."), ("user", SHIP), model=model)
    assert (text_of(fresh), num_read(fresh) < 40) == (ARGO, True)
    longer = chat(served, ("user", SHIP), ("assistant", text_of(fresh)), ("user", KEY), model=model)
    assert (text_of(longer), num_read(longer) < 25) == (MIRELLE, True)
    assert library.session(voyage).num_messages == 4, "the session itself has only its own conversation"
    forks = library.served_sessions(f"of-{library.session(voyage).id}")
    assert sorted(library.session(row.id).num_messages for row in forks) == [4, 4]


def test_a_request_for_a_title_leaves_no_trace(served, voyage):
    library = served.workspace.library
    before = library.session(voyage).num_messages, len(library.served_sessions())
    title = chat(served, ("user", f"### Task:\nWrite a title. {SHIP}"), model=f"sala/{voyage}")
    assert text_of(title)
    assert (library.session(voyage).num_messages, len(library.served_sessions())) == before


def test_a_client_that_leaves_ends_its_answer_and_not_the_reading(served):
    lines = "".join(
        f"In year {n} the keeper of lamp {n * 7} wrote: all quiet, wind from the {n % 9}.\n" for n in range(600)
    )
    body = {
        "model": "embedded",
        "messages": [{"role": "user", "content": lines}, {"role": "user", "content": "What did the keeper write?"}],
        "stream": True,
        "return_progress": True,
    }
    library = served.workspace.library
    with (
        httpx.Client(base_url=served.url, headers={"authorization": f"Bearer {served.key}"}, timeout=120) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        progress = next(json.loads(line[6:]) for line in response.iter_lines() if '"prompt_progress"' in line)
    assert progress["prompt_progress"]["total"] > 8192
    row = next(row for row in library.served_sessions() if row.num_tokens == progress["prompt_progress"]["total"])
    wait_until(lambda: library.session(row.id).position == row.num_tokens)
    wait_until(lambda: served.workspace.active_job(row.id) is None)
    assert library.session(row.id).num_messages == 0
    body |= {"stream": False}
    raw = served.client.post("/v1/chat/completions", json=body).json()
    assert num_read(raw) < 25


def test_a_later_start_of_the_program_reads_nothing_again(tmp_path):
    messages = [("user", STORY), ("user", KEY)]
    with running(tmp_path / "library") as server:
        assert num_read(chat(server, *messages)) > 300
    with running(tmp_path / "library") as server:
        again = chat(server, *messages[:1], ("user", SHIP))
        assert (text_of(again), num_read(again) < 25) == (ARGO, True)

"""Responses that later ones go on from, completions, models, tokens, counters."""

import pytest
from api_server import STORY, events_of

KEY, SHIP = "Who carried the brass key?", "What was the ship called?"
MIRELLE, ARGO = '"Captain Mirelle carried the brass key."', '"The ship was called Argo."'


def respond(served, **fields):
    response = served.client.post("/v1/responses", json={"model": "embedded", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def text_of(raw):
    return raw["output"][-1]["content"][0]["text"]


def test_a_response_is_continued_and_forked_by_its_id(served):
    texts = [{"role": "user", "content": STORY}, {"role": "user", "content": KEY}]
    first = respond(served, input=texts, instructions="Help.")
    assert (text_of(first), first["status"]) == (MIRELLE, "completed")
    assert first["output"][-1]["content"][0]["annotations"][0]["type"] == "file_citation"
    followers = [respond(served, input=SHIP, previous_response_id=first["id"]) for _ in range(2)]
    for follower in followers:
        usage = follower["usage"]
        assert text_of(follower) == ARGO
        assert usage["input_tokens"] - usage["input_tokens_details"]["cached_tokens"] < 25
        assert usage["input_tokens"] == followers[0]["usage"]["input_tokens"], "the other branch is not in it"
    assert followers[0]["id"] != followers[1]["id"]
    third = respond(served, input=KEY, previous_response_id=followers[0]["id"])
    assert third["usage"]["input_tokens"] > followers[0]["usage"]["input_tokens"]


def test_a_response_can_be_looked_at_and_deleted(served):
    made = respond(served, input=f"{STORY}\n\n{KEY}")
    path = f"/v1/responses/{made['id']}"
    assert text_of(served.client.get(path).json()) == MIRELLE
    assert served.client.delete(path).json()["deleted"] is True
    assert served.client.get(path).status_code == 404
    body = {"model": "embedded", "input": SHIP, "previous_response_id": made["id"]}
    response = served.client.post("/v1/responses", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "response_not_found")


def test_a_response_that_is_not_to_be_stored_is_not_continued(served):
    made = respond(served, input=f"{STORY}\n\n{KEY}", store=False)
    assert served.client.get(f"/v1/responses/{made['id']}").status_code == 404


def test_the_events_of_a_stream_come_in_the_documented_order(served):
    body = {"model": "embedded", "input": f"{STORY}\n\n{KEY}", "stream": True}
    events = events_of(served.client.post("/v1/responses", json=body))
    names = [each["type"] for each in events]
    assert names[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert names[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    deltas = "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")
    assert deltas == text_of(events[-1]["response"]) == MIRELLE


def test_a_store_is_asked_by_file_search(served, voyage):
    session = served.workspace.library.session(voyage)
    tools = [{"type": "file_search", "vector_store_ids": [f"vs_{session.id}"]}]
    made = respond(served, input=KEY, tools=tools)
    assert text_of(made) == MIRELLE
    citation = made["output"][-1]["content"][0]["annotations"][0]
    assert citation["filename"] == "voyage.txt"
    content = served.client.get(f"/v1/files/{citation['file_id']}/content")
    assert content.text == STORY


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"background": True},
        {"input": [{"type": "function_call_output", "output": "x"}]},
        {"input": []},
        {"include": ["reasoning.encrypted_content"]},
        {"text": {"format": {"type": "json_schema"}}},
    ],
)
def test_what_responses_do_not_have_is_refused(served, fields):
    response = served.client.post("/v1/responses", json={"model": "embedded", "input": "x", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_a_completion_of_a_model_that_finds_answers_the_question_at_its_end(served):
    body = {"model": "embedded", "prompt": f"{STORY}\n\nQuestion: {KEY}\nAnswer:"}
    raw = served.client.post("/v1/completions", json=body).json()
    assert (raw["object"], raw["choices"][0]["text"]) == ("text_completion", MIRELLE)
    events = events_of(served.client.post("/v1/completions", json=body | {"stream": True}))
    assert "".join(each["choices"][0]["text"] for each in events) == MIRELLE
    for prompt in ([1, 2], ["a", "b"], "", None):
        assert served.client.post("/v1/completions", json=body | {"prompt": prompt}).status_code == 400


def test_models_tokens_health_and_counters(served, voyage):
    models = {each["id"]: each for each in served.client.get("/v1/models").json()["data"]}
    assert models["embedded"]["max_model_len"] == 2**21
    assert models[f"sala/{voyage}"]["num_tokens"] > 300
    assert served.client.get(f"/v1/models/sala/{voyage}").json()["id"] == f"sala/{voyage}"
    assert served.client.get("/v1/models/other").status_code == 404
    counted = served.client.post("/tokenize", json={"content": "The ship was called Argo."}).json()
    assert counted["count"] == len(counted["tokens"]) > 3
    assert served.client.get("/health").json() == {"status": "ok"}
    lines = served.client.get("/metrics").text.splitlines()
    assert any(line.startswith('sala_requests_total{route="/v1/models",status="200"}') for line in lines)
    names = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    assert {"sala_prompt_tokens_total", "sala_cached_tokens_total", "sala_state_bytes", "sala_jobs_waiting"} <= names

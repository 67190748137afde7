"""Clients of other makers, unmodified, against a running server.

They run in a Python that has them: the one in SALA_TEST_CLIENTS, or else this one, after
`pip install -e .[test-clients]`. What that Python lacks is skipped. SALA_TEST_AIDER names a Python with aider, whose
pins clash with the others.
"""

import json
import os
import subprocess
import sys

import pytest
from api_server import STORY

CLIENTS = os.environ.get("SALA_TEST_CLIENTS") or sys.executable
AIDER = os.environ.get("SALA_TEST_AIDER", "")
MIRELLE, ARGO = '"Captain Mirelle carried the brass key."', '"The ship was called Argo."'

OPENAI = """
from openai import BadRequestError, NotFoundError, OpenAI
client = OpenAI(base_url=URL + "/v1", api_key=KEY)
messages = [{"role": "user", "content": STORY}, {"role": "user", "content": "Who carried the brass key?"}]
whole = client.chat.completions.create(model="embedded", messages=messages, temperature=0, seed=1, max_tokens=90)
stream = client.chat.completions.create(
    model="embedded", messages=messages, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
said["chat"] = whole.choices[0].message.content
said["cached"] = chunks[-1].usage.prompt_tokens_details.cached_tokens / chunks[-1].usage.prompt_tokens
said["stream"] = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
first = client.responses.create(model="embedded", input=messages)
said["response"] = first.output_text
with client.responses.stream(
        model="embedded", previous_response_id=first.id, input="What was the ship called?") as events:
    kinds = [event.type for event in events]
    said["continued"] = events.get_final_response().output_text
said["last event"] = kinds[-1]
said["retrieved"] = client.responses.retrieve(first.id).output_text
file = client.files.create(file=("voyage.txt", STORY.encode()), purpose="assistants")
store = client.vector_stores.create(name="client's store")
done = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
said["file"] = done.status
batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=[("n.md", b"The harbour was called Tarn.")])
said["batch"] = [batch.status, client.vector_stores.retrieve(store.id).file_counts.completed]
said["search"] = client.vector_stores.search(store.id, query="harbour").data[0].content[0].text
tools = [{"type": "file_search", "vector_store_ids": [store.id]}]
said["store"] = client.responses.create(model="embedded", input="What was the harbour called?", tools=tools).output_text
said["models"] = [each.id for each in client.models.list()]
for kind, fields in ((BadRequestError, {"n": 2}), (NotFoundError, {"model": "gpt"})):
    try:
        client.chat.completions.create(**{"model": "embedded", "messages": messages} | fields)
    except kind as error:
        said[kind.__name__] = error.code or error.type
"""

LANGCHAIN = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="embedded", base_url=URL + "/v1", api_key=KEY, temperature=0)
messages = [("system", "Help."), ("human", STORY), ("human", "Who carried the brass key?")]
answer = model.invoke(messages)
said["invoke"] = answer.content
said["usage"] = answer.usage_metadata["input_tokens"] > 300
said["stream"] = "".join(each.content for each in model.stream(messages))
responses = ChatOpenAI(model="embedded", base_url=URL + "/v1", api_key=KEY, use_responses_api=True)
said["responses"] = responses.invoke(messages).text
"""

LLAMA_INDEX = """
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
model = OpenAILike(model="embedded", api_base=URL + "/v1", api_key=KEY, is_chat_model=True, context_window=100000)
messages = [ChatMessage(role="user", content=STORY), ChatMessage(role="user", content="What was the ship called?")]
said["chat"] = model.chat(messages).message.content
said["stream"] = list(model.stream_chat(messages))[-1].message.content
plain = OpenAILike(model="embedded", api_base=URL + "/v1", api_key=KEY, is_chat_model=False, context_window=100000)
said["complete"] = plain.complete(STORY + "\\n\\nQuestion: What was the ship called?\\nAnswer:").text
"""


def run_client(served, code, module, tmp_path, python=CLIENTS):
    """What a client said. Skips where the Python lacks its module."""
    probe = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"{module} is not installed; SALA_TEST_CLIENTS names a Python with [test-clients]")
    head = f"import json\nURL, KEY, STORY, said = {served.url!r}, {served.key!r}, {STORY!r}, {{}}\n"
    environment = {**os.environ, "HOME": str(tmp_path), "OPENAI_API_KEY": "unused"}
    done = subprocess.run(
        [python, "-c", f"{head}{code}\nprint(json.dumps(said))"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_openai_client(served, tmp_path):
    said = run_client(served, OPENAI, "openai", tmp_path)
    assert (said["chat"], said["stream"], said["response"], said["retrieved"]) == (MIRELLE,) * 4
    assert said["cached"] > 0.9
    assert (said["continued"], said["last event"]) == (ARGO, "response.completed")
    assert (said["file"], said["batch"]) == ("completed", ["completed", 2])
    assert "Tarn" in said["search"]
    assert said["store"] == '"The harbour was called Tarn."'
    assert "sala/client's store" in said["models"]
    assert (said["BadRequestError"], said["NotFoundError"]) == ("unsupported_parameter", "model_not_found")


def test_langchain(served, tmp_path):
    said = run_client(served, LANGCHAIN, "langchain_openai", tmp_path)
    assert said == {"invoke": MIRELLE, "usage": True, "stream": MIRELLE, "responses": MIRELLE}


def test_llama_index(served, tmp_path):
    said = run_client(served, LLAMA_INDEX, "llama_index.llms.openai_like", tmp_path)
    assert (said["chat"], said["stream"], said["complete"]) == (ARGO,) * 3


def test_llm_with_extra_models(served, tmp_path):
    if subprocess.run([CLIENTS, "-c", "import llm"], capture_output=True, check=False).returncode:
        pytest.skip("llm is not installed; SALA_TEST_CLIENTS names a Python with [test-clients]")
    models = f"- model_id: sala\n  model_name: embedded\n  api_base: {served.url}/v1\n  api_key_name: sala\n"
    (tmp_path / "extra-openai-models.yaml").write_text(models, encoding="utf-8")
    (tmp_path / "keys.json").write_text(json.dumps({"sala": served.key}), encoding="utf-8")
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}

    def llm(*words, given=""):
        return subprocess.run(
            [CLIENTS, "-m", "llm", *words],
            input=given,
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
            check=True,
        ).stdout.strip()

    question = f"{STORY}\n\nWho carried the brass key?"
    assert llm("-m", "sala", question) == MIRELLE
    assert llm("-m", "sala", "--no-stream", "-s", "Help.", question) == MIRELLE
    assert llm("-c", "What was the ship called?") == ARGO


@pytest.mark.skipif(not AIDER, reason="SALA_TEST_AIDER names no Python with aider")
def test_aider_on_a_small_repository(served, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "notes.md").write_text("# Notes\n\nThe brass key is carried by Captain Mirelle.\n", encoding="utf-8")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "First"],
    ):
        subprocess.run(["git", *words], cwd=repository, check=True)
    done = subprocess.run(
        [
            AIDER, "-m", "aider", "--model", "openai/embedded", "--openai-api-base", f"{served.url}/v1",
            "--openai-api-key", served.key, "--message", "Who carries the brass key?", "--yes-always",
            "--no-auto-commits", "--no-check-update",
            "--no-show-model-warnings", "--no-analytics", "--edit-format", "ask", "notes.md",
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"The brass key is carried by Captain Mirelle."' in done.stdout
    counted = served.client.get("/metrics").text
    assert 'route="/v1/chat/completions",status="200"' in counted

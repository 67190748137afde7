"""What a server is and how long a text it takes; addresses and keys; which engines are found on this machine."""

import os
from contextlib import closing

import pytest
from engine_server import EngineServer, running

from sala_core.errors import EngineChangedError, EngineError, EngineFailedError, EngineRefusedError
from sala_core.remote.access import Access, read_key
from sala_core.remote.describe import chosen, served
from sala_core.remote.found import engines_here
from sala_core.remote.server import Server


def described(state: EngineServer, model: str = ""):
    with running(state), closing(Server(Access.of(state.url, state.key))) as server:
        return chosen(server, model)


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:11434/v1/", "http://localhost:11434"),
        ("https://host/api/v1/chat/completions", "https://host/api"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_taken_as_it_is_typed(typed, url):
    assert Access.of(typed).url == url


@pytest.mark.parametrize(
    "typed", ["", "ftp://x", "http://", "http://a b", "http://x:99999", "http://me:pw@x", "http://x?q=1"]
)
def test_what_is_no_address_is_refused(typed):
    with pytest.raises(EngineError):
        Access.of(typed)


def test_only_this_machine_is_here_and_an_open_line_is_known():
    assert Access.of("localhost:1").is_here
    assert Access.of("http://127.9.0.1:1").is_here
    assert not Access.of("http://127.0.0.1.example.org").is_here
    assert Access.of("http://192.168.1.5:1").is_open_line
    assert not Access.of("https://example.org").is_open_line


def test_a_key_that_others_can_read_is_refused_and_no_key_is_shown(tmp_path):
    file = tmp_path / "key"
    file.write_text("secret\n")
    file.chmod(0o600)
    assert read_key(file) == "secret"
    assert "secret" not in repr(Access.of("x", "secret"))
    if os.name == "posix":
        file.chmod(0o644)
        with pytest.raises(EngineError, match="chmod 600"):
            read_key(file)
    file.chmod(0o600)
    file.write_text("two words")
    with pytest.raises(EngineError, match="holds no key"):
        read_key(file)


SETTINGS = {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 1}


@pytest.mark.parametrize(
    ("state", "kind", "context"),
    [
        (EngineServer(models=[{"id": "a", "owned_by": "vllm", "max_model_len": 32768}]), "vllm", 32768),
        (EngineServer(models=[{"id": "a", "owned_by": "llamacpp"}], pages={"/props": SETTINGS}), "llama.cpp", 8192),
        (EngineServer(models=[{"id": "a"}], pages={"/props": SETTINGS}), "llama.cpp", 8192),
        (EngineServer(models=[{"id": "a", "context_length": 131072}]), "openai", 131072),
        (EngineServer(models=[{"id": "a"}]), "openai", None),
    ],
)
def test_the_kind_and_the_context_are_found(state, kind, context):
    info = described(state)
    assert (info.kind, info.model, info.context_tokens) == (kind, "a", context)


def test_ollamas_context_is_that_of_the_loaded_model_or_its_default():
    shown = {"model_info": {"llama.context_length": 131072}, "parameters": "stop x", "capabilities": ["completion"]}
    pages = {"/api/version": {"version": "0.12"}, "/api/show": shown, "/api/ps": {"models": []}}
    state = EngineServer(models=[{"id": "a:latest", "owned_by": "library"}], pages=pages)
    assert described(state, "a").context_tokens == 4096, "what is longer is cut without a word"
    pages["/api/ps"] = {"models": [{"name": "a:latest", "context_length": 16384}]}
    assert described(state, "a").context_tokens == 16384
    pages["/api/ps"], shown["parameters"] = {"models": []}, "num_ctx    32768\nstop x"
    assert described(state, "a").context_tokens == 32768
    shown["capabilities"] = ["embedding"]
    with pytest.raises(EngineChangedError, match="no model for conversations"):
        described(state, "a")


def test_lm_studios_context_is_that_of_the_loaded_model():
    rows = [
        {"id": "a", "type": "llm", "state": "loaded", "max_context_length": 32768, "loaded_context_length": 8192},
        {"id": "b", "type": "llm", "state": "not-loaded", "max_context_length": 32768},
        {"id": "c", "type": "embeddings", "state": "loaded", "max_context_length": 512},
    ]
    state = EngineServer(models=[{"id": name} for name in "abc"], pages={"/api/v0/models": {"data": rows}})
    with running(state), closing(Server(Access.of(state.url))) as server:
        found = served(server)
    assert [(info.model, info.context_tokens) for info in found] == [("a", 8192), ("b", 4096)]


def test_sglang_is_limited_by_its_memory_and_tells_whether_it_has_sessions():
    told = {"disable_radix_cache": True, "enable_streaming_session": True, "max_total_num_tokens": 600_000}
    models = [{"id": "a", "owned_by": "sglang", "max_model_len": 1_000_000}]
    info = described(EngineServer(models=models, pages={"/get_server_info": told}))
    assert (info.kind, info.context_tokens, info.keeps_state, info.has_sessions) == ("sglang", 600_000, False, True)


def test_one_of_several_models_has_to_be_named():
    two = EngineServer(models=[{"id": "a"}, {"id": "b"}])
    with pytest.raises(EngineChangedError, match="--engine-model"):
        described(two)
    assert described(two, "b").model == "b"
    with pytest.raises(EngineChangedError, match="does not serve 'c', but 'a', 'b'"):
        described(two, "c")
    with pytest.raises(EngineChangedError, match="load one there"):
        described(EngineServer(models=[]))


def test_a_key_is_asked_for_and_what_is_no_engine_is_told():
    locked = EngineServer(key="k")
    with running(locked), pytest.raises(EngineRefusedError, match="wants a key"):
        served(Server(Access.of(locked.url)))
    assert described(EngineServer(key="k")).model == "toy"
    with pytest.raises(EngineFailedError, match="is no server with an OpenAI-compatible API"):
        described(EngineServer(models=None))  # type: ignore[arg-type]


def test_the_engines_of_this_machine_are_found_at_their_ports():
    with running() as one, running(EngineServer(key="k")) as locked, running() as gone:
        silent = gone.port
    # `gone` has ended: nothing listens there
    with running(EngineServer(port=one.port)) as one, running(EngineServer(port=locked.port, key="k")) as locked:
        found = engines_here({one.port: "Ollama", locked.port: "vLLM", silent: "SGLang"})
    assert [server.url for server in found] == [one.url, locked.url]
    assert [info.model for info in found[0].engines] == ["toy"]
    assert "wants a key" in found[1].problem

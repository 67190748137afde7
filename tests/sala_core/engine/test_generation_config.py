"""Every key of generation_config.json is taken, has no effect, or is refused by name."""

import pytest

from sala_core import Engine, SamplingParams
from sala_core.errors import ModelError

PUBLISHED = {
    "bos_token_id": 1,
    "do_sample": True,
    "eos_token_id": [2, 73440],
    "pad_token_id": 2,
    "temperature": 0.9,
    "top_p": 0.95,
    "transformers_version": "4.56.1",
}


def read(raw, **options):
    return SamplingParams.from_generation_config(raw, **options)


def test_a_published_file_gives_its_values_and_a_longer_answer_to_a_model_that_thinks():
    assert read(PUBLISHED) == SamplingParams(temperature=0.9, top_p=0.95, max_tokens=512)
    assert read(PUBLISHED, thinks=True) == SamplingParams(temperature=0.9, top_p=0.95, max_tokens=4096)


def test_every_sampling_value_is_taken():
    raw = {"temperature": 0.5, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}
    more = {"max_new_tokens": 2048, "stop_strings": ["END"], "thinking_budget": 100}
    expected = SamplingParams(**raw, max_tokens=2048, stop=("END",), thinking_budget=100)
    assert read(raw | more, thinks=True) == read(raw | more) == expected
    assert read({"stop_strings": "END"}).stop == ("END",)
    assert read({"temperature": 0.5, "do_sample": False}).temperature == 0
    assert read({"temperature": None, "max_new_tokens": None}) == SamplingParams()


@pytest.mark.parametrize(
    ("name", "neutral", "value"),
    [
        ("num_beams", 1, 4),
        ("typical_p", 1.0, 0.9),
        ("no_repeat_ngram_size", 0, 3),
        ("encoder_repetition_penalty", 1.0, 1.2),
        ("penalty_alpha", 0.0, 0.6),
        ("guidance_scale", 1.0, 1.5),
        ("min_new_tokens", 0, 5),
        ("suppress_tokens", [], [3]),
        ("forced_bos_token_id", None, 3),
        ("bad_words_ids", None, [[3]]),
        ("presence_penalty", None, 1.5),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name, neutral, value):
    assert read({name: neutral}) == SamplingParams()
    with pytest.raises(ValueError, match=rf"{name} = .* is not computed by this program; remove {name}"):
        read({name: value})


def test_the_defaults_of_the_transformers_library_are_accepted():
    transformers = pytest.importorskip("transformers")
    read(transformers.GenerationConfig().to_dict())
    raw = transformers.GenerationConfig(max_length=20, use_cache=True, num_return_sequences=1, output_scores=True)
    assert read(raw.to_dict()) == SamplingParams()


def test_a_refused_key_is_an_error_of_the_model(make_model):
    folder = make_model()
    (folder / "generation_config.json").write_text('{"num_beams": 4}')
    with pytest.raises(ModelError, match=r"generation_config\.json of .*num_beams = 4"):
        _ = Engine.load(folder).sampling_defaults

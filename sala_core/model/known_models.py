"""The published models that this program reads, with what a user wants to know before a download."""

from dataclasses import dataclass

from sala_core.model.config import SalaConfig

_SPARSE_LAYERS = (0, 9, 16, 17, 22, 29, 30, 31)


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A published model. num_bytes: of its weight files. license: its SPDX identifier."""

    name: str
    config: SalaConfig
    num_parameters: int
    num_bytes: int
    license: str


KNOWN_MODELS = (
    KnownModel(
        name="openbmb/MiniCPM-SALA",
        config=SalaConfig(
            vocab_size=73_448,
            hidden_size=4096,
            intermediate_size=16_384,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=2,
            head_dim=128,
            lightning_nh=32,
            lightning_nkv=32,
            lightning_head_dim=128,
            mixer_types=tuple("minicpm4" if i in _SPARSE_LAYERS else "lightning-attn" for i in range(32)),
            eos_token_id=(2, 73_440),
        ),
        num_parameters=9_477_203_968,
        num_bytes=18_954_407_936,
        license="Apache-2.0",
    ),
)
"""A test counts `num_parameters` and `num_bytes` from the config."""


def known_model(name: str) -> KnownModel | None:
    """The published model of this name, in any case; None for any other."""
    return next((model for model in KNOWN_MODELS if model.name.lower() == name.lower()), None)

"""Batches of residual streams, which wait on the CPU between layers, and scores of the model's predictions."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from sala_core.model.config import SalaConfig
from sala_core.quantize.solver import QuantizeStopped
from sala_core.stopping import never

_BATCH_NUMBERS = 1 << 26  # in the widest activation of a batch: 128 MiB in bfloat16
_BATCH_TOKENS = 1 << 14
_LOGIT_TOKENS = 512  # tokens whose logits are in memory at once


class Batches:
    """Runs functions over batches of texts on the device. Calls `should_stop` before each batch."""

    def __init__(self, config: SalaConfig, device: torch.device, should_stop: Callable[[], bool] = never) -> None:
        self._device, self._should_stop = device, should_stop
        widest = max(
            config.intermediate_size,
            config.num_attention_heads * config.head_dim,
            config.lightning_nh * config.lightning_head_dim,
        )
        self._tokens = min(_BATCH_TOKENS, _BATCH_NUMBERS // widest)

    def slices(self, num_texts: int, num_tokens: int) -> Iterator[slice]:
        """Yield the range of texts of each batch; all texts have `num_tokens` tokens. Raises QuantizeStopped."""
        step = max(1, self._tokens // num_tokens)
        for start in range(0, num_texts, step):
            if self._should_stop():
                raise QuantizeStopped
            yield slice(start, min(start + step, num_texts))

    def each(self, texts: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield (range, batch on the device) for texts [N, T, ...]. Raises QuantizeStopped."""
        for part in self.slices(texts.shape[0], texts.shape[1]):
            yield part, texts[part].to(self._device)

    def update(self, texts: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        """Replace texts [N, T, ...] by function(texts), in place. Raises QuantizeStopped."""
        for part, batch in self.each(texts):
            texts[part] = function(batch).to(texts.device)


class Score:
    """Sums the losses of several versions of one model, and the KL divergences from the first version."""

    def __init__(self, versions: Sequence[str]) -> None:
        self.tokens = 0
        self._losses = dict.fromkeys(versions, 0.0)
        self._divergences = dict.fromkeys(versions, 0.0)

    @torch.inference_mode()
    def add(self, normed: Mapping[str, Tensor], heads: Mapping[str, Tensor], ids: Tensor, num_prefix: int) -> None:
        """Score every token of a batch of texts, except those of their common prefix and a first token.

        Args:
            normed: version -> input of lm_head, [B, T, D].
            heads: version -> lm_head weight, [vocab, D].
            ids: [B, T] int64.
            num_prefix: tokens at the start of each text that are not scored.
        """
        first = max(num_prefix, 1)
        targets = ids[:, first:].reshape(-1)
        inputs = {name: x[:, first - 1 : -1].reshape(-1, x.shape[-1]) for name, x in normed.items()}
        for start in range(0, len(targets), _LOGIT_TOKENS):
            part = slice(start, start + _LOGIT_TOKENS)
            reference: Tensor | None = None
            for name in self._losses:
                logs = linear(inputs[name][part], heads[name]).float().log_softmax(-1)
                reference = logs if reference is None else reference
                self._losses[name] -= float(logs.gather(1, targets[part, None]).sum())
                self._divergences[name] += float((reference.exp() * (reference - logs)).sum())
        self.tokens += len(targets)

    def perplexity(self, version: str) -> float:
        """Return exp of the mean loss of a version."""
        return math.exp(min(self._losses[version] / self.tokens, 700.0))

    def divergence(self, version: str) -> float:
        """Return the mean KL divergence of a version from the first one, nats per token."""
        return self._divergences[version] / self.tokens

"""The auxiliary losses equal a direct computation, and their banks are no part of the model."""

from dataclasses import replace

import pytest
import torch

from sala_core.errors import TrainError
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.train.auxiliary_losses import (
    AuxiliaryLosses,
    block_loss,
    look_loss,
    pooled_keys,
    question_attention,
    window_targets,
)
from sala_core.train.data.batches import AnswerPositions
from sala_core.train.network.network import Network
from sala_core.train.objectives import NextToken
from sala_core.train.recipe import Phase

CONFIG = SalaConfig(
    vocab_size=90, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, attn_qk_norm=True, lightning_nh=4, lightning_nkv=4, lightning_head_dim=8,
    dim_model_base=32, mixer_types=("lightning-attn", "minicpm4", "minicpm4"),
    sparse_config=SparseConfig(kernel_size=8, kernel_stride=4, block_size=8, window_size=16, init_blocks=1, topk=3),
)  # fmt: skip
PHASE = Phase(steps=1, length=48, rows=2, learning_rate=1e-3, block_loss=0.3, memory_loss=0.2, look_loss=0.4)
STRIDE, SIZE = 4, 8


def some_positions():
    """Answer positions of two rows of 48 tokens: two queries and two questions in the first row, one in the second."""
    documents, questions, answers = (
        torch.zeros(2, 48),
        torch.full((2, 2, 3), -1),
        torch.zeros(2, 2, 2, 2, dtype=torch.int64),
    )
    documents[0, 3:28] = documents[1, 10:16] = documents[1, 18:30] = 1
    questions[0] = torch.tensor([[38, 39, -1], [41, 43, 45]])
    questions[1, 0] = torch.tensor([24, 25, 26])
    answers[0] = torch.tensor([[[4, 10], [20, 26]], [[20, 26], [0, 0]]])
    answers[1, 0, 0] = torch.tensor([22, 27])
    beginnings = torch.full((2, 3, 4), -1)
    beginnings[0, 0] = torch.tensor([5, 6, 7, 8])
    beginnings[1, 2, :2] = torch.tensor([9, 10])
    return AnswerPositions(
        queries=torch.tensor([[40, 44, 0], [30, 0, 0]]),
        turn_starts=torch.tensor([[38, 38, 0], [24, 0, 0]]),
        gold=torch.tensor([[[4, 10], [20, 26], [0, 0]], [[22, 27], [0, 0], [0, 0]]]),
        valid=torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        memory=torch.tensor([[9, 0, 0], [0, 0, 17]]),
        beginnings=beginnings,
        documents=documents,
        questions=questions,
        answers=answers,
    )


def losses_of_two_rows(config=CONFIG, phase=PHASE):
    torch.manual_seed(0)
    network = Network(config)
    network.initialize(torch.Generator().manual_seed(0), std=0.3)
    objective = AuxiliaryLosses(network)
    objective.prepare(phase, sparse=False)
    return objective, torch.randint(90, (2, 49)), torch.rand(2, 48)


def test_window_targets_are_the_windows_that_contain_the_span():
    hits = window_targets(torch.tensor([[[40, 50], [0, 0], [16, 64]]]), num_windows=6, stride=16, size=32)[0]
    assert hits[0].nonzero().flatten().tolist() == [2]
    assert not hits[1].any()
    assert hits[2].nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_block_loss_equals_a_direct_computation():
    torch.manual_seed(1)
    q, k, bank, positions = torch.randn(2, 48, 4, 8), torch.randn(2, 48, 2, 8), torch.randn(2, 5, 8), some_positions()
    windows = range((48 - SIZE) // STRIDE + 1)
    losses = []
    for row in range(2):
        for (start, end), position, turn_start, valid in zip(
            positions.gold[row].tolist(),
            positions.queries[row],
            positions.turn_starts[row],
            positions.valid[row],
            strict=True,
        ):
            if not valid:
                continue
            shares = []
            for head in range(4):
                kv_head, right, total = head // 2, 0.0, 0.0
                for other in range(2):
                    for window in windows:
                        at = window * STRIDE
                        key = k[other, at : at + SIZE, kv_head].mean(0)
                        weight = (q[row, position, head] @ key * 8**-0.5).exp()
                        if other == row and at + SIZE > turn_start:
                            continue
                        total += weight
                        overlap = min(end, at + SIZE) - max(start, at)
                        right += weight if other == row and overlap >= min(12, end - start) else 0.0
                total += sum((q[row, position, head] @ key * 8**-0.5).exp() for key in bank[kv_head])
                shares.append(right / total)
            if sum(shares) > 0:
                losses.append(-(sum(shares) / 4).log())
    loss = block_loss(q, pooled_keys(k, SIZE, STRIDE), bank, positions, STRIDE, SIZE)
    assert len(losses) == 2  # the only window of the third query reaches into its own turn
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_look_loss_equals_a_direct_computation():
    torch.manual_seed(2)
    layers = [(torch.randn(2, 48, 4, 8), torch.randn(2, 48, 2, 8), torch.randn(2, 5, 8)) for _ in range(2)]
    positions, losses = some_positions(), []
    for row, question, spans in (
        (0, (38, 39), ((4, 10), (20, 26))),
        (0, (41, 43, 45), ((20, 26),)),
        (1, (24, 25, 26), ((22, 27),)),
    ):
        attention = torch.zeros(48 + 5 * 8)  # to the row, and to eight tokens for each key of the bank
        for q, k, bank in layers:
            for position in question:
                for head in range(4):
                    keys = torch.cat([k[row, : position + 1, head // 2], bank[head // 2].repeat_interleave(8, 0)])
                    weights = (keys @ q[row, position, head] * 8**-0.5).softmax(0)
                    attention[: position + 1] += weights[: position + 1]
                    attention[48:] += weights[position + 1 :]
        attention[:48] *= positions.documents[row]
        squared = attention.square()
        right = [squared[start:end].sum() for start, end in spans]
        losses += [-(one / (one + squared.sum() - sum(right))).log() for one in right]
    parts = zip(*(question_attention(*layer, positions) for layer in layers), strict=True)
    torch.testing.assert_close(look_loss(*(sum(part) for part in parts), positions), torch.stack(losses).mean())


def test_the_loss_is_the_next_token_loss_plus_factors_times_the_auxiliary_losses():
    objective, ids, weights = losses_of_two_rows()
    positions, window_bank, key_bank = some_positions(), objective.window_bank.clone(), objective.key_bank.clone()
    inputs = []
    hidden = objective.network(ids[:, :-1], lambda layer, x, mixed: inputs.append(x) if layer else None)
    text = NextToken(objective.network)(ids, weights)
    block_losses, attention = [], []
    for layer, x in zip((1, 2), inputs, strict=True):
        q, k = objective.network.layers[layer].self_attn.queries_keys(x, None)
        block_losses.append(
            block_loss(q, pooled_keys(k, SIZE, STRIDE), window_bank[layer - 1], positions, STRIDE, SIZE)
        )
        attention.append(question_attention(q, k, key_bank[layer - 1], positions))
    looked = look_loss(attention[0][0] + attention[1][0], attention[0][1] + attention[1][1], positions)
    memory_losses = []
    for row, position, tokens in ((0, 9, (5, 6, 7, 8)), (1, 17, (9, 10))):
        for head, token in zip(objective.memory, tokens, strict=False):
            logits = objective.network.vocabulary @ head(inputs[0][row, position])
            memory_losses.append(-logits.log_softmax(0)[token])
    expected = text / weights.sum() + 0.3 * sum(block_losses) / 2 + 0.2 * sum(memory_losses) / 6 + 0.4 * looked
    assert hidden.shape == (2, 48, 32)
    torch.testing.assert_close(objective(ids, weights, positions) / weights.sum(), expected)


def test_new_pooled_keys_replace_the_oldest_of_the_bank():
    objective, ids, weights = losses_of_two_rows()
    before = objective.window_bank.clone()
    objective(ids, weights, some_positions()).backward()
    assert objective.window_bank.shape == before.shape == (2, 2, 8192, 8)
    assert torch.equal(objective.window_bank[:, :, :-22], before[:, :, 22:])
    assert not torch.equal(objective.window_bank[:, :, -22:], before[:, :, -22:])


def test_new_keys_of_documents_replace_the_oldest_of_the_bank():
    objective, ids, weights = losses_of_two_rows()
    before = objective.key_bank.clone()
    inputs = []
    objective.network(ids[:, :-1], lambda layer, x, mixed: inputs.append(x) if layer else None)
    objective(ids, weights, some_positions())
    assert objective.key_bank.shape == before.shape == (2, 2, 8192, 8)
    assert torch.equal(objective.key_bank[:, :, :-6], before[:, :, 6:])
    for layer, x in enumerate(inputs):
        k = objective.network.layers[layer + 1].self_attn.queries_keys(x, None)[1]
        new = objective.key_bank[layer, :, -6:]
        torch.testing.assert_close(new[:, 0], k[0, 9])
        torch.testing.assert_close(new[:, 5], k[1, 17])
        assert torch.equal(new[:, 1:5], before[layer, :, 1:5])  # unused slots: the oldest keys stay


def test_rows_without_answers_have_the_next_token_loss():
    objective, ids, weights = losses_of_two_rows()
    empty = some_positions()._replace(
        valid=torch.zeros(2, 3),
        beginnings=torch.full((2, 3, 4), -1),
        questions=torch.full((2, 2, 3), -1),
        answers=torch.zeros(2, 2, 2, 2, dtype=torch.int64),
    )
    torch.testing.assert_close(objective(ids, weights, empty), NextToken(objective.network)(ids, weights))


def test_recomputing_activations_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        objective, ids, weights = losses_of_two_rows()
        objective.network.recompute = recompute
        objective(ids, weights, some_positions()).backward()
        gradients.append({name: p.grad for name, p in objective.trained_parameters()})
    assert "memory.3.weight" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_models_and_rows_that_cannot_have_auxiliary_losses_are_refused():
    with pytest.raises(TrainError, match="softmax layer"):
        AuxiliaryLosses(Network(replace(CONFIG, mixer_types=("lightning-attn",) * 3)))
    with pytest.raises(TrainError, match="8 tokens"):
        losses_of_two_rows(phase=replace(PHASE, length=7))

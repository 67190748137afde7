"""Every operation in bfloat16: emulated in Triton's interpreter as on each card, or computed by the card at hand."""

import importlib

import pytest
import torch
from sala_kernels.block_choice import choose_blocks
from sala_kernels.block_scores import block_scores
from sala_kernels.blocks import BlockLayout
from sala_kernels.inspection.bf16_interpreter import emulated_bf16
from sala_kernels.inspection.cases import Comparison, Numbers
from sala_kernels.inspection.compiler import CARDS
from sala_kernels.inspection.report import OPERATIONS, agreements_of
from sala_kernels.launch import as_card, capability

interpreter = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels run on the GPU, not in the interpreter")
BF16 = torch.bfloat16


def comparisons() -> list:
    return [
        pytest.param(operation, comparison, id=f"{operation}: {comparison.name}")
        for operation in OPERATIONS
        for comparison in importlib.import_module(f"sala_kernels.{operation}.cases").comparisons()
        if comparison.limit_in(BF16) is not None
    ]


@interpreter
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("operation", "comparison"), comparisons())
def test_the_kernels_agree_with_float64_as_launched_on_each_card(operation: str, comparison: Comparison, device):
    records = list(agreements_of(operation, comparison, device, BF16))
    assert sorted(name for record in records for name in record.cards) == sorted(card.name for card in CARDS)
    assert [record for record in records if not record.good] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_kernels_agree_with_the_reference_on_the_gpu(operation: str, dtype: torch.dtype):
    for comparison in importlib.import_module(f"sala_kernels.{operation}.cases").comparisons():
        if comparison.limit_in(dtype) is not None:
            (record,) = agreements_of(operation, comparison, torch.device("cuda"), dtype)
            assert record.good, record


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"block_choice"}))  # whose scores are float32
def test_every_operation_is_compared_in_bfloat16(operation: str):
    assert any(parameters.values[0] == operation for parameters in comparisons())


@interpreter
def test_kernels_are_launched_as_on_the_card_that_is_named():
    x = torch.zeros(1)
    assert capability(x) == 80
    with as_card(120):
        assert capability(x) == 120
        with as_card(90):
            assert capability(x) == 90
        assert capability(x) == 120
    assert capability(x) == 80


@interpreter
def test_an_error_in_one_capabilitys_branch_is_found(device):
    """The result is wrong on sm_90 alone: the other cards agree."""

    def run(backend: str, on: torch.device, numbers: Numbers) -> list[torch.Tensor]:
        x = numbers.rows(torch.ones(4, device=on))
        return [2 * x if backend == "triton" and capability(x) == 90 else x]

    comparison = Comparison(name="double", run=run)
    # no launch differs, so that all cards share the first one's run ...
    assert [record.cards for record in agreements_of("none", comparison, device, BF16)] == [
        tuple(card.name for card in CARDS)
    ]
    # ... and each is run where it is alone
    good = {card.name: next(agreements_of("none", comparison, device, BF16, [card])).good for card in CARDS}
    assert good == {card.name: card.name != "sm_90" for card in CARDS}


@interpreter
@pytest.mark.parametrize("T", [2, 24])
def test_bfloat16_scores_choose_the_blocks_of_exact_scores_but_for_ties(T: int):
    """A block chosen in place of another has a score that is lower by at most a part in 10,000."""
    layout = BlockLayout(stride=16, block=64, init=1, local=2, slots=4)
    generator, position = torch.Generator().manual_seed(0), 3000
    q = torch.randn(T, 16, 128, generator=generator).bfloat16()
    k1, k2 = (torch.randn(1, (position + T) // step, 128, generator=generator).bfloat16() for step in (16, 64))
    places = {"position": position, "layout": layout}
    exact = block_scores(q.double(), k1.double(), k2.double(), scale=128**-0.5, backend="reference", **places)
    with emulated_bf16():
        scores = block_scores(q, k1, k2, scale=128**-0.5, backend="triton", **places)
    found = choose_blocks(scores[..., : exact.shape[-1]], **places)
    wanted = choose_blocks(exact, **places)
    worst_found, worst_wanted = (exact.gather(-1, chosen).amin(-1) for chosen in (found, wanted))
    assert (worst_found >= worst_wanted * (1 - 1e-4)).all()

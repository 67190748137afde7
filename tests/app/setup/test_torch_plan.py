"""Which torch a new environment gets, and what is said before."""

import sys

import pytest

from app.setup import torch_build
from app.setup.installer import Installer
from app.setup.torch_plan import plan_torch

PLAIN, OWN = Installer(name="pip"), Installer(name="pip", has_own_sources=True)


@pytest.fixture
def linux(monkeypatch):
    """Linux on x86-64 without a driver; torch's own index answers."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch_build, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(torch_build, "answers", lambda index: True)
    return monkeypatch


def test_without_a_driver_the_cpu_build_comes_from_torchs_own_index(linux):
    plan = plan_torch("auto", PLAIN)
    assert (plan.wanted, plan.expected, plan.index, plan.remark) == ("cpu", "cpu", torch_build.CPU_INDEX, "")
    assert "torch for CPUs" in plan.announcement([])
    assert "about 330 MB to download, 1.5 GB on disk" in plan.announcement([])
    assert "about 620 MB to download, 2.6 GB on disk" in plan.announcement(["test"]), "with Triton"


def test_an_index_that_does_not_answer_gives_the_default_build_and_a_sentence(linux):
    linux.setattr(torch_build, "answers", lambda index: False)
    plan = plan_torch("auto", PLAIN)
    assert (plan.wanted, plan.expected, plan.index) == ("cpu", "cuda", None)
    assert plan.remark.startswith(f"{torch_build.CPU_INDEX} does not answer")
    assert "torch with CUDA" in plan.announcement([])
    assert "about 2.9 GB to download" in plan.announcement([])
    assert plan.least_size([]).download > 2800


def test_with_a_driver_the_default_index_has_the_build(linux):
    linux.setattr(torch_build, "has_nvidia_driver", lambda: True)
    linux.setattr(torch_build, "driver_branch", lambda: 580)
    linux.setattr(torch_build, "answers", lambda index: pytest.fail("no index of torch's own is needed"))
    plan = plan_torch("auto", PLAIN)
    assert (plan.wanted, plan.expected, plan.index, plan.remark) == ("cuda", "cuda", None, "")
    linux.setattr(torch_build, "driver_branch", lambda: 550)
    assert plan_torch("auto", PLAIN).remark == (
        "The NVIDIA driver 550 is too old for CUDA 13.0; update it to 580 or later"
    )


def test_the_users_own_index_goes_before_torchs_own(linux):
    linux.setattr(torch_build, "answers", lambda index: pytest.fail("a user with an index is not sent to another"))
    plan = plan_torch("auto", OWN)
    assert (plan.wanted, plan.expected, plan.index) == ("cpu", None, None)
    assert "setup --torch cpu|cuda" in plan.remark
    assert "(with CUDA 2.9 GB and 5.6 GB)" in plan.announcement([])


def test_a_build_that_the_user_names_comes_from_torchs_own_index(linux):
    assert plan_torch("cpu", OWN).index == torch_build.CPU_INDEX
    linux.setattr(torch_build, "answers", lambda index: False)
    plan = plan_torch("cpu", OWN)
    assert (plan.index, plan.expected) == (None, None)
    assert "does not answer" in plan.remark


def test_on_windows_the_build_with_cuda_comes_from_torchs_own_index(linux):
    linux.setattr(sys, "platform", "win32")
    linux.setattr("platform.machine", lambda: "AMD64")
    assert plan_torch("auto", PLAIN).index is None
    assert plan_torch("cuda", PLAIN).index == torch_build.CUDA_INDEX
    assert "download" not in plan_torch("cuda", PLAIN).announcement([]), "its size is not known"
    linux.setattr(torch_build, "answers", lambda index: False)
    plan = plan_torch("cuda", PLAIN)
    assert (plan.wanted, plan.expected) == ("cuda", "cpu")
    assert plan.remark.endswith("without CUDA")

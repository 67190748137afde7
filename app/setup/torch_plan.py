"""Which build of torch a new environment gets, from where, and how much that is. Standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.setup import torch_build
from app.setup.download_size import Size, expected_size, in_words
from app.setup.installer import Installer
from app.setup.torch_build import TorchBuild


@dataclass(frozen=True, kw_only=True)
class TorchPlan:
    """How a new environment gets torch."""

    wanted: TorchBuild
    """The build that suits the choice and the machine."""
    expected: TorchBuild | None
    """The build that will be installed; None if an index that the user has set decides."""
    index: str | None = None
    """Torch's own index if the build comes from there; None for the default index, or the user's own."""
    remark: str = ""
    """What the user should know about it."""

    def announcement(self, extras: Sequence[str]) -> str:
        """Return the sentence that says what will be installed, how much is downloaded and how much disk it takes."""
        what = "torch for CPUs" if self.wanted == "cpu" else "torch with CUDA"
        if self.expected is None:
            what = "torch"
        elif self.expected != self.wanted:
            what = "torch with CUDA" if self.expected == "cuda" else "torch without CUDA"
        size = expected_size(self.expected or "cpu", extras)
        amount = "" if size is None else f": about {in_words(size.download)} to download, {in_words(size.disk)} on disk"
        larger = expected_size("cuda", extras)
        if self.expected is None and size is not None and larger is not None:
            amount += f" (with CUDA {in_words(larger.download)} and {in_words(larger.disk)})"
        return f"Installing {what} and what else the program needs{amount}. It is safe to interrupt"

    def least_size(self, extras: Sequence[str]) -> Size | None:
        """Return the size of the whole environment, the smaller one if two are possible; None if it is not known."""
        return expected_size(self.expected or self.wanted, extras)


def plan_torch(choice: str, installer: Installer) -> TorchPlan:
    """Choose torch's build and index for a new environment. Asks torch's own index whether it answers, for 3 s at most.

    An index that the user has set goes before torch's own, unless the user asks for the build by name.

    choice: auto, cpu or cuda.
    """
    wanted = torch_build.wanted_build(choice)
    index = torch_build.index_of(wanted)
    if index is not None and installer.has_own_sources and choice == "auto":
        remark = f"The package index that {installer.name} is set to has the say on torch's build; another one: "
        return TorchPlan(wanted=wanted, expected=None, remark=remark + "python3 launch.py setup --torch cpu|cuda")
    if index is not None and torch_build.answers(index):
        return TorchPlan(wanted=wanted, expected=wanted, index=index)
    if index is not None:
        remark = f"{index} does not answer, so torch comes from the default index, "
        remark += "with CUDA and nine times as large" if wanted == "cpu" else "without CUDA"
        default: TorchBuild | None = "cuda" if wanted == "cpu" else "cpu"
        return TorchPlan(wanted=wanted, expected=None if installer.has_own_sources else default, remark=remark)
    branch = torch_build.driver_branch() if wanted == "cuda" else None
    old = branch is not None and branch < torch_build.MIN_DRIVER
    remark = f"The NVIDIA driver {branch} is too old for CUDA 13.0; update it to {torch_build.MIN_DRIVER} or later"
    expected = None if installer.has_own_sources else wanted
    return TorchPlan(wanted=wanted, expected=expected, remark=remark if old else "")

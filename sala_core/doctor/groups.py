"""The groups of checks, in their order, with the time that each may take."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sala_core.doctor.records import Examination, Outcome
from sala_core.errors import DoctorError


@dataclass(frozen=True, kw_only=True)
class Group:
    """Checks that share a process.

    Attributes:
        names: of the checks, in the order of their outcomes.
        function: "module:function"; takes an Examination, yields an Outcome for each name.
        limit_s: the process is ended after this time.
    """

    names: tuple[str, ...]
    function: str
    limit_s: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Group":
        """From what `to_json` returned."""
        return cls(**{**values, "names": tuple(values["names"])})

    def run(self, examination: Examination) -> Iterator[Outcome]:
        """Run the checks in this process."""
        module, _, name = self.function.partition(":")
        function: Callable[[Examination], Iterator[Outcome]]
        function = getattr(importlib.import_module(module), name)
        return function(examination)


_CHECKS = "sala_core.doctor.checks."

GROUPS = (
    Group(names=("system", "program", "card"), function=_CHECKS + "machine:machine", limit_s=120),
    Group(names=("library",), function=_CHECKS + "library:library", limit_s=300),
    Group(names=("trivial kernel",), function=_CHECKS + "kernels:trivial_kernel", limit_s=180),
    Group(names=("float32 comparisons",), function=_CHECKS + "kernels:float32_comparisons", limit_s=600),
    Group(names=("bfloat16 comparisons",), function=_CHECKS + "kernels:bfloat16_comparisons", limit_s=900),
    Group(names=("poisoned memory",), function=_CHECKS + "poison:poisoned_memory", limit_s=600),
    Group(names=("CUDA graphs",), function=_CHECKS + "graphs:cuda_graphs", limit_s=300),
    Group(names=("speed", "memory peak"), function=_CHECKS + "speed:speed_and_memory", limit_s=300),
    Group(names=("checkpoint",), function=_CHECKS + "checkpoint:checkpoint", limit_s=900),
    Group(names=("tokenizer",), function=_CHECKS + "tokenizer:tokenizer", limit_s=120),
    Group(names=("perplexity", "greedy tokens", "needle"), function=_CHECKS + "answers:answers", limit_s=1200),
)


def chosen_groups(names: Sequence[str]) -> tuple[Group, ...]:
    """The groups with at least one of these checks; all of them for no names. Raises DoctorError for an unknown one."""
    known = [name for group in GROUPS for name in group.names]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DoctorError(f"there is no check {unknown[0]!r}; choose from {', '.join(known)}")
    return tuple(group for group in GROUPS if not names or set(names) & set(group.names))

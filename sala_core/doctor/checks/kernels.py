"""The kernels: a first launch, and every operation against its reference, in float32 and in bfloat16."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sala_kernels import has_triton
from sala_kernels.inspection.report import OPERATIONS

from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.engine.device import check_triton

_QUICK = ("rms_norm", "gated_norm", "swiglu", "key_compression", "kv_quantization", "kv_append")
_LIMIT_S = {"float32": 420.0, "bfloat16": 600.0}
_TAIL_LINES = 12
_NO_TRITON = "Triton is not installed, so PyTorch computes all operations; on Linux `launch.py kernels` installs it"
_BUG = "attach this report to a bug report; until then use --device cpu"


def trivial_kernel(examination: Examination) -> Iterator[Outcome]:
    """The check "trivial kernel": numbers are added, by a compiled kernel on a card, else in Triton's interpreter.

    Raises DeviceError, which names what Triton lacks.
    """
    name = "trivial kernel"
    on_card = _uses_card(examination)
    if not has_triton() and not (on_card and sys.platform == "linux"):
        yield not_possible(name, _NO_TRITON)
        return
    began = time.monotonic()
    if on_card:
        check_triton(torch.device("cuda"))
        yield ok(name, {"where": "compiled for the card", "seconds": round(time.monotonic() - began, 2)})
        return
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
    from sala_kernels.probe import probe

    found = probe(torch.device("cpu"))
    where = "in Triton's interpreter on the CPU; nothing was compiled"
    figures: dict[str, Figure] = {"where": where, "seconds": round(time.monotonic() - began, 2)}
    if torch.equal(found, 2 * torch.arange(len(found), dtype=found.dtype)):
        yield ok(name, figures)
    else:
        yield failed(name, f"a sum gave {found[:4].tolist()} instead of [0, 2, 4, 6]", _BUG, figures)


def float32_comparisons(examination: Examination) -> Iterator[Outcome]:
    """The check "float32 comparisons"."""
    yield _compare("float32", examination)


def bfloat16_comparisons(examination: Examination) -> Iterator[Outcome]:
    """The check "bfloat16 comparisons". On a CPU bfloat16 is emulated as a card computes it."""
    yield _compare("bfloat16", examination)


def _compare(dtype: str, examination: Examination) -> Outcome:
    if not has_triton():
        return not_possible(f"{dtype} comparisons", _NO_TRITON)
    on_card = _uses_card(examination)
    if not on_card:  # with --device cpu the processes that compare must not see a card
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    comparing = Comparing(dtype, _QUICK if examination.quick else OPERATIONS, _LIMIT_S[dtype])
    comparing.run()
    return comparing.outcome(on_card=on_card)


def _uses_card(examination: Examination) -> bool:
    return examination.device != "cpu" and torch.cuda.is_available()


class Comparing:
    """The comparisons of several operations with their references, each in a process that may crash."""

    def __init__(self, dtype: str, operations: Sequence[str], limit_s: float) -> None:
        """Prepare the comparisons.

        dtype: "float32" or "bfloat16". operations: those to compare. limit_s: no comparison begins after this time.
        """
        self.dtype, self.operations, self._limit_s = dtype, tuple(operations), limit_s
        self.records: list[dict[str, Any]] = []
        self.crashes: dict[str, str] = {}
        self.unfinished: tuple[str, ...] = ()

    def run(self) -> None:
        """Compare. After a crash, the operation that crashed is skipped and a new process takes the others."""
        left, ends_at = list(self.operations), time.monotonic() + self._limit_s
        while left and time.monotonic() < ends_at:
            errors, code = self._run_worker(left, ends_at)
            done = {record["operation"] for record in self.records}
            reached = [operation for operation in left if operation in done]
            if code == 0:
                left = []
            elif code is None:  # out of time
                left = left[max(0, len(reached) - 1) :]
                break
            else:
                crashed = _crashed(left, reached, errors)
                tail = "\n".join(errors.splitlines()[-_TAIL_LINES:])
                self.crashes[crashed] = f"exit code {code}\n{tail}"
                left = left[left.index(crashed) + 1 :]
        self.unfinished = tuple(left)

    def _run_worker(self, operations: Sequence[str], ends_at: float) -> tuple[str, int | None]:
        """Run a process until it ends or its time is over. Returns (its stderr, exit code or None)."""
        command = [sys.executable, "-X", "faulthandler", "-m", "sala_kernels.inspection", "compare", *operations]
        command += [] if self.dtype == "float32" else ["--dtype", self.dtype]
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
        )
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            worker.kill()

        timer = threading.Timer(max(0.0, ends_at - time.monotonic()), expire)
        errors: list[str] = []
        assert worker.stdout is not None
        assert worker.stderr is not None
        collector = threading.Thread(target=errors.extend, args=(worker.stderr,), daemon=True)
        collector.start()
        timer.start()
        try:
            for line in worker.stdout:
                if line.startswith("{"):
                    self.records.append(json.loads(line))
            code = worker.wait()
        finally:
            timer.cancel()
        collector.join(5)
        return "".join(errors).strip(), None if expired.is_set() else code

    def outcome(self, *, on_card: bool) -> Outcome:
        """What the records and crashes say."""
        name = f"{self.dtype} comparisons"
        bad = [record for record in self.records if not record["good"]]
        where = "natively on the card" if on_card else "in Triton's interpreter on the CPU"
        if self.dtype == "bfloat16" and not on_card:
            where += ", with bfloat16 emulated as a card computes it"
        figures: dict[str, Figure] = {
            "where": where,
            "comparisons": len(self.records),
            "beyond their limit": len(bad),
            **{f"largest error of {operation}": text for operation, text in self._largest()},
            "operations without a comparison": ", ".join(self._without_records()) or "none",
        }
        text = "\n".join(f"{operation}: {tail}" for operation, tail in self.crashes.items())
        if self.crashes or bad:
            parts = [f"{r['operation']}: {r['comparison']}: {r['error']:.1e} of {r['limit']:.1e}" for r in bad[:5]]
            parts += [f"{operation} ended its process" for operation in self.crashes]
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            return failed(name, f"kernels differ from the reference: {'; '.join(parts)}{more}", _BUG, figures, text)
        if not self.records:
            return not_possible(name, f"no comparison ended within {self._limit_s:.0f} s on this machine")
        if self.unfinished:
            reason = f"the time of {self._limit_s:.0f} s was over before: {', '.join(self.unfinished)}"
            return ok(name, figures, reason=reason)
        return ok(name, figures, reason="" if len(self.operations) == len(OPERATIONS) else "a quick selection")

    def _without_records(self) -> list[str]:
        compared = {record["operation"] for record in self.records}
        return [operation for operation in self.operations if operation not in compared]

    def _largest(self) -> Iterator[tuple[str, str]]:
        """The comparison of each operation that is nearest to its limit, or beyond it."""
        for operation in self.operations:
            own = [record for record in self.records if record["operation"] == operation]
            if own:
                worst = max(own, key=lambda r: (not r["good"], r["error"] / r["limit"] if r["limit"] else 0.0))
                share = f"{worst['error']:.1e} of {worst['limit']:.1e}"
                yield operation, f"{share} ({worst['comparison']}, {len(own)} in all)"


def _crashed(operations: list[str], reached: list[str], errors: str) -> str:
    """The operation in which a process ended.

    operations: those that it was to compare. reached: those with a record. errors: its traceback, which names the
    files of the operation; without one it is the last operation with a record.
    """
    last = reached[-1] if reached else operations[0]
    following = operations[operations.index(last) + 1 :][:1] if reached else []
    named = [operation for operation in following if f"{os.sep}{operation}{os.sep}" in errors]
    return named[0] if named else last

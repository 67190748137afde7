"""`python -m sala_kernels.inspection compile|compare|count OPERATION... [--card sm_90 ...]` prints JSON lines.

`compare` takes `--dtype bfloat16`; without a GPU it computes in Triton's interpreter, as on each card.

Each line is one record. Each of the three needs a process of its own: Triton's compiler and its interpreter cannot
share one.
"""

import argparse
import json
import os
from collections.abc import Iterable
from dataclasses import asdict


def main() -> None:
    """Parse the command line, set Triton's mode before Triton is imported, and print the records."""
    parser = argparse.ArgumentParser(prog="python -m sala_kernels.inspection")
    parser.add_argument("what", choices=("compile", "compare", "count"))
    parser.add_argument("operations", nargs="+")
    parser.add_argument("--card", action="append", dest="cards")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()

    import torch

    interpret = arguments.what == "compare" and not torch.cuda.is_available()
    os.environ["TRITON_INTERPRET"] = "1" if interpret else "0"
    torch.set_num_threads(1)

    from sala_kernels.inspection import report
    from sala_kernels.inspection.compiler import CARDS

    records: Iterable[report.Record]
    cards = [card for card in CARDS if not arguments.cards or card.name in arguments.cards]
    if arguments.what == "compile":
        records = report.compiled_kernels(arguments.operations, cards)
    elif arguments.what == "compare":
        device, dtype = torch.device("cpu" if interpret else "cuda"), getattr(torch, arguments.dtype)
        records = report.agreements(device, arguments.operations, dtype, cards)
    else:
        records = report.work(arguments.operations)
    for record in records:
        print(json.dumps({**asdict(record), **_verdict(record)}), flush=True)


def _verdict(record: object) -> dict[str, bool]:
    good = getattr(record, "good", None)
    return {} if good is None else {"good": good}


if __name__ == "__main__":
    main()

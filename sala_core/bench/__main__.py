"""`python -m sala_core.bench JOB OPTIONS`: runs one job and prints its records as JSON lines.

`sala_core.bench.child` starts it. OPTIONS is a JSON object.
"""

import json
import signal
import sys

from sala_core.bench.child import OUT_OF_MEMORY_CODE
from sala_core.bench.jobs import JOBS
from sala_core.engine.memory_plan import is_out_of_memory
from sala_core.errors import MemoryBudgetError


def main() -> int:
    """Run the job; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent process ends this one
    job, options = sys.argv[1:]
    try:
        for record in JOBS[job](**json.loads(options)):
            print(json.dumps(record), flush=True)
    except (MemoryBudgetError, MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryBudgetError | MemoryError) and not is_out_of_memory(error):
            raise
        print(f"  out of memory: {error}".partition("\n")[0], file=sys.stderr, flush=True)
        return OUT_OF_MEMORY_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())

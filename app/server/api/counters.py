"""What the API counts since the program started, for `/metrics`."""

from __future__ import annotations

import threading
import time
from collections import Counter


class Counters:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        """Begin with zero."""
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._tokens: Counter[str] = Counter()
        self.began = time.time()

    def add_request(self, path: str, status: int) -> None:
        """Count a request. path: of its route. status: of its response."""
        with self._lock:
            self._requests[path, status] += 1

    def add_answer(self, prompt_tokens: int, tokens_cached: int, tokens_generated: int) -> None:
        """Count the tokens of an answer: of its prompt, those of them that were read before, and its own."""
        with self._lock:
            self._tokens["prompt"] += prompt_tokens
            self._tokens["cached"] += tokens_cached
            self._tokens["generated"] += tokens_generated

    def lines(self) -> list[str]:
        """The counters in Prometheus' text format."""
        with self._lock:
            requests, tokens = sorted(self._requests.items()), dict(self._tokens)
        lines = ["# HELP sala_requests_total Requests by route and status.", "# TYPE sala_requests_total counter"]
        lines += [
            f'sala_requests_total{{route="{path}",status="{status}"}} {count}' for (path, status), count in requests
        ]
        for name, text in (
            ("prompt", "Tokens of prompts, with those that were read before."),
            ("cached", "Tokens of prompts that did not have to be read again."),
            ("generated", "Tokens of answers."),
        ):
            lines += [
                f"# HELP sala_{name}_tokens_total {text}",
                f"# TYPE sala_{name}_tokens_total counter",
                f"sala_{name}_tokens_total {tokens.get(name, 0)}",
            ]
        return lines

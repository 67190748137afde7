"""What a plain client pays that sends a whole book with every request, against a running `launch.py serve`.

    python tests/measure/stateless.py BOOK.txt --tokens 200000 --key-file LIBRARY/page/api-key

It sends the same text with another last question each time, then with one more line at the text's end, and prints what
the server says of each answer, and the seconds.
"""

import argparse
import time
from pathlib import Path

import httpx

QUESTIONS = ("Who is Natasha's brother?", "Where does Pierre live?", "Who is Natasha's brother?")
_CHARS_AT_ONCE = 400_000
"""Characters whose tokens are counted in one request."""


def cut_to(client: httpx.Client, text: str, num_tokens: int) -> str:
    """The beginning of a text that has about this many tokens."""
    sample = text[:_CHARS_AT_ONCE]
    count = client.post("/tokenize", json={"content": sample}).raise_for_status().json()["count"]
    return text[: int(len(sample) * num_tokens / count)]


def ask(client: httpx.Client, model: str, text: str, question: str) -> str:
    """Ask, and return a row of the table."""
    messages = [
        {"role": "system", "content": "You answer questions about a book."},
        {"role": "user", "content": text},
        {"role": "user", "content": question},
    ]
    began = time.monotonic()
    raw = client.post("/v1/chat/completions", json={"model": model, "messages": messages}).raise_for_status().json()
    seconds = time.monotonic() - began
    usage, answer = raw["usage"], raw["choices"][0]["message"]["content"].replace("\n", " ")
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    prompt = usage["prompt_tokens"]
    return f"| {question} | {prompt:,} | {cached:,} | {prompt - cached:,} | {seconds:.1f} s | {answer[:60]} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("book", type=Path)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--url", default="http://127.0.0.1:7863")
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    headers = {"authorization": f"Bearer {arguments.key_file.read_text().strip()}"}
    with httpx.Client(base_url=arguments.url, headers=headers, timeout=None) as client:
        text = cut_to(client, arguments.book.read_text(encoding="utf-8"), arguments.tokens)
        print("| question | prompt | cached | read | time | answer |\n|---|---|---|---|---|---|")
        for question in QUESTIONS:
            print(ask(client, arguments.model, text, question), flush=True)
        print(ask(client, arguments.model, f"{text}\nOne more line.", QUESTIONS[1]), flush=True)


if __name__ == "__main__":
    main()

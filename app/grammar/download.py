"""The command line of `download`. Standard library only, like `app.grammar.parser`."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from app.grammar.values import not_blank

_EPILOG = """Run the same command again to continue a download that was stopped or cut. The target is no model until
every file is there and its checksum is right. HF_ENDPOINT names another hub, HF_HUB_CACHE another cache."""


@dataclass(frozen=True, kw_only=True)
class DownloadArguments:
    """The options of `download`. Their meaning is in the help text of the command."""

    name: str
    to: Path | None
    revision: str | None
    token: str | None
    json: bool

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> "DownloadArguments":
        """Take the values that argparse has parsed."""
        return cls(**{field.name: getattr(namespace, field.name) for field in fields(cls)})


def add_download_options(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument and the options of `download` to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument("name", metavar="NAME", help="a model on the hub, such as openbmb/MiniCPM-SALA")
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder for the model (default: the Hugging Face cache)")
    parser.add_argument(
        "--revision",
        type=not_blank("the revision is empty"),
        metavar="R",
        help="branch, tag or commit (default: the latest)",
    )
    parser.add_argument(
        "--token",
        type=not_blank("the token is empty"),
        metavar="T",
        help="access token, for private and gated models (default: HF_TOKEN, which no list of processes shows)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per event instead of text")

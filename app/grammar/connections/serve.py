"""The options of `serve`. Standard library only."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.grammar.values import whole_number

_LOOPBACK = ("127.0.0.1", "localhost")
_ORIGIN = re.compile(r"https?://[^\s/?#]+|null")


@dataclass(frozen=True, kw_only=True)
class ServeArguments:
    """What `serve` was asked for.

    host: address to listen at. show_key: print the key and end. origins: of web pages that may use the API too.
    forget: delete what other programs have sent, and end. engine_for_others: let other Salas read and ask here.
    certificate, certificate_key: files for TLS; None for none.
    """

    host: str = "127.0.0.1"
    show_key: bool = False
    origins: tuple[str, ...] = ()
    forget: bool = False
    engine_for_others: bool = False
    certificate: Path | None = None
    certificate_key: Path | None = None

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """Collect the options of a parsed command line."""
        return cls(
            host=namespace.host,
            show_key=namespace.show_key,
            origins=tuple(namespace.origins),
            forget=namespace.forget_sent,
            engine_for_others=namespace.engine_for_others,
            certificate=namespace.certificate,
            certificate_key=namespace.certificate_key,
        )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this computer can connect."""
        return self.host in _LOOPBACK


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="listen here (default: 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=whole_number(1, 65535),
        default=argparse.SUPPRESS,
        metavar="N",
        help="port (default: that of the page, or a free one)",
    )
    parser.add_argument("--show-key", action="store_true", help="print the key that other programs send, and end")
    parser.add_argument(
        "--allow-origin",
        dest="origins",
        action="append",
        default=[],
        type=_origin,
        metavar="ORIGIN",
        help="let web pages of this origin use the API with the key, such as http://localhost:3000; may be repeated",
    )
    parser.add_argument(
        "--forget-sent", action="store_true", help="delete the texts and states that other programs have sent, and end"
    )

    parser.add_argument(
        "--engine-for-others",
        action="store_true",
        help="let other Salas read and ask here, with a key of their own (--engine-for-others --show-key prints it)",
    )
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="serve by TLS with this certificate (PEM)")
    parser.add_argument(
        "--key", dest="certificate_key", type=Path, metavar="FILE", help="the certificate's private key (PEM)"
    )


def serve_usage_error(arguments: ServeArguments) -> str | None:
    """Return what is wrong with the options, if anything."""
    if (arguments.certificate is None) != (arguments.certificate_key is None):
        return "--certificate FILE and --key FILE belong together"
    if arguments.engine_for_others and not arguments.is_local and arguments.certificate is None:
        return (
            "--engine-for-others listens at other addresses than this computer's only with --certificate and --key; "
            "without them, let the other computer come in by: ssh -L"
        )
    return None


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no origin; it looks like http://localhost:3000")
    return text.lower()

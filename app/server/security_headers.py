"""The security headers of every response, the strictest content policy under which Gradio 6.31 works, and what the
headers of a request must say.

The policy was found by driving the page in a browser and reading the reported violations:

- Inline scripts: the served HTML contains the configuration and the scripts that start the page. Each is allowed by
  its hash, so an injected script does not run.
- Inline styles: components set `style` attributes and add `<style>` elements at run time, which no hash can cover.
- 'unsafe-eval' is not needed, as long as no event uses `js=` and the page has no `gr.HTML`.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers, MutableHeaders

_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def local_names(port: int) -> set[str]:
    """This computer's own names with a port, as the `Host` header has them."""
    return {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}


def is_own_host(headers: Headers, names: Collection[str]) -> bool:
    """Whether a request names this program as its host, once. names: as `local_names` gives them."""
    hosts = headers.getlist("host")
    return len(hosts) == 1 and hosts[0].lower() in names


def is_from_web_page(headers: Headers) -> bool:
    """Whether a browser sends a request for a web page."""
    return "origin" in headers or headers.get("sec-fetch-site") not in (None, "none")


def shows_key(headers: Headers, key: str) -> bool:
    """Whether a request shows a key, as `Authorization: Bearer KEY`."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())


def set_security_headers(headers: MutableHeaders, *, keep_cache: bool) -> None:
    """Set the fixed headers in place.

    keep_cache: leave the caching headers of files that never change as they are.
    """
    for name, value in _FIXED.items():
        headers[name] = value
    if not keep_cache:
        headers["cache-control"] = "no-store"
    for name in ("server", "access-control-allow-origin", "access-control-allow-credentials"):
        if name in headers:
            del headers[name]


def content_policy(page: bytes, inline_scripts: Sequence[str] = ()) -> str:
    """Return the Content-Security-Policy. It allows only this server's files and the given inline scripts.

    page: HTML whose inline scripts are allowed. inline_scripts: bodies of further scripts.
    """
    bodies = [match[1] for match in _INLINE_SCRIPT.finditer(page)] + [script.encode() for script in inline_scripts]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(body).digest()).decode()}'" for body in bodies]
    return "; ".join(
        [
            "default-src 'self'",
            " ".join(["script-src 'self'", *dict.fromkeys(hashes)]),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "object-src 'none'",
            "frame-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        ]
    )

"""The headers every answer carries, and the content policy that Gradio 6.31 can live with.

What it needs was found by driving the page in a browser and reading the violations.
Inline scripts: the configuration and its starters in the served HTML, each allowed by its hash, so that an
injected script stays dead. Inline styles: components set `style` attributes and add `<style>` elements at
run time, which no hash covers. 'unsafe-eval' is not needed as long as no event has `js=` and the page no
`gr.HTML`.
"""

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders

_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)
_FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


def guarded_headers(headers: MutableHeaders, *, keeps_cache: bool) -> None:
    """Set the fixed headers in place; `keeps_cache` leaves the caching of unchanging files as it is."""
    for name, value in _FIXED.items():
        headers[name] = value
    if not keeps_cache:
        headers["cache-control"] = "no-store"
    for name in ("server", "access-control-allow-origin", "access-control-allow-credentials"):
        if name in headers:
            del headers[name]


def content_policy(page: bytes, inline_scripts: Sequence[str] = ()) -> str:
    """Content-Security-Policy: only our own files, and the inline scripts of `page` and `inline_scripts`."""
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

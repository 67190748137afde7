"""The security headers of every response, and the strictest content policy under which Gradio 6.31 works.

The policy was found by driving the page in a browser and reading the reported violations:

- Inline scripts: the served HTML contains the configuration and the scripts that start the page. Each is allowed by
  its hash, so an injected script does not run.
- Inline styles: components set `style` attributes and add `<style>` elements at run time, which no hash can cover.
- 'unsafe-eval' is not needed, as long as no event uses `js=` and the page has no `gr.HTML`.
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

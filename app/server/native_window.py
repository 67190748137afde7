"""The page in a native window of its own, by pywebview, instead of in a browser."""

from __future__ import annotations

from sala_core.errors import SalaError


def show_window(url: str) -> None:
    """Show a page in a native window, and return when it is closed. Needs the main thread.

    url: the address with its token; it stays inside of this process. Raises SalaError if there is no pywebview, or
    nothing that it can draw windows with.
    """
    try:
        import webview
    except ImportError as error:
        raise SalaError("--window needs the package pywebview; install it, or leave --window out") from error
    webview.create_window("Sala", url, width=1280, height=860, min_size=(400, 500), text_select=True)
    try:
        webview.start()
    except webview.errors.WebViewException as error:
        raise SalaError(f"no native window can be opened ({error}); leave --window out to use a browser") from error

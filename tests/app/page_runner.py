"""Serves the page over a fake workspace, without the guard: `python tests/app/page_runner.py [port]`."""

from __future__ import annotations

import sys
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fake_workspace import FakeWorkspace

from app.page import build_page, page_options

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)


def create_app(workspace: FakeWorkspace) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def add_policy(request: Request, call_next) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return gr.mount_gradio_app(app, build_page(workspace), "/", **page_options())


if __name__ == "__main__":
    uvicorn.run(
        create_app(FakeWorkspace()),
        host="127.0.0.1",
        port=int((sys.argv[1:] or ["7990"])[0]),
        log_level="warning",
    )

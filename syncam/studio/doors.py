"""The doors of the page: what a request may bring, and how what is wrong with it is said, in one place."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable

import gradio as gr
from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from syncam.studio.scripts import static_route

MAX_BODY_BYTES = 8 << 20  # of a request that brings no file: eight cameras with a thousand poses each are less


def message(error: Exception) -> gr.Error:
    """A toast. Gradio shows a message as HTML; it may quote what somebody typed."""
    return gr.Error(html.escape(str(error), quote=False), print_exception=False)


def said(handler: Callable) -> Callable:
    """The same handler, whose ValueErrors are told to the person."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def door(*args, **kwargs):
            try:
                async for value in handler(*args, **kwargs):
                    yield value
            except ValueError as error:
                raise message(error) from error

    else:

        @functools.wraps(handler)
        def door(*args, **kwargs):
            try:
                return handler(*args, **kwargs)
            except ValueError as error:
                raise message(error) from error

    return door


class LimitedBody:
    """ASGI: a request that is too large is refused before it is read. Files go through gradio's own upload, limited."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        refusal = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].endswith("/upload"):
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit():
                refusal = JSONResponse({"error": "a request must say how long it is"}, 411)
            elif int(length) > MAX_BODY_BYTES:
                limit = f"{MAX_BODY_BYTES >> 20} MB"
                refusal = JSONResponse(
                    {"error": f"a request has at most {limit}, this one {length.decode()} bytes"}, 413
                )
        await (refusal or self.app)(scope, receive, send)


async def no_such_endpoint(request, error) -> JSONResponse:
    return JSONResponse({"error": "there is no endpoint of this name: see /gradio_api/info"}, 404)


def app_options() -> dict:
    """What gradio's FastAPI app is made with."""
    return {
        "routes": [static_route()],
        "middleware": [Middleware(LimitedBody)],
        "exception_handlers": {FnIndexInferError: no_such_endpoint},
    }

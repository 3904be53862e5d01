"""How the page is served: what ``launch`` is told, and what a request may bring."""

from __future__ import annotations

from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from syncam.studio.scripts import HERE, static_route
from syncam.studio.theme import theme

MAX_BODY_BYTES = 8 << 20  # of a request that brings no file: eight cameras with a thousand poses each are less
MAX_UPLOAD = "64mb"


class BodyLimit:
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


def launch_options() -> dict:
    """What ``launch`` needs for the page to look and behave as meant, and to ask no other machine for anything."""
    return {
        "theme": theme(),
        "css": (HERE / "studio.css").read_text("utf-8"),
        "js": (HERE / "studio.js").read_text("utf-8"),
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
        "run_history": False,
        "max_file_size": MAX_UPLOAD,
        "app_kwargs": {
            "routes": [static_route()],
            "middleware": [Middleware(BodyLimit)],
            "exception_handlers": {FnIndexInferError: no_such_endpoint},
        },
    }

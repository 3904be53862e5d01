"""How the page is served: what ``launch`` is given, what a request may bring, and from where it may come."""

from __future__ import annotations

import html
import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import psutil
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncam.studio.engine import Engine
from syncam.studio.errors import message
from syncam.studio.quotas import Quotas, RateLimit, client_address
from syncam.studio.scripts import HERE, static_route
from syncam.studio.theme import theme
from syncam.studio.upstream import UPLOAD_ROUTE, NoSuchEndpoint, boundary_of, served_files
from syncam.units import format_bytes

MAX_BODY_BYTES = 8 << 20  # of a request that brings no file: eight cameras with a thousand poses each are less
MAX_UPLOAD_BYTES, MAX_UPLOAD_FILES = 64 << 20, 8  # of one request
THIS_MACHINE = ("127.0.0.1", "localhost")
CLEANING_SECONDS = 10.0
_ADDRESS = re.compile(r"\s*https?:", re.IGNORECASE)


class StudioBlocks(gr.Blocks):
    """Gradio's page; whatever goes wrong in one of its events or endpoints is told by :mod:`syncam.studio.errors`.

    Gradio shows a message as HTML, and it may quote what somebody typed.
    """

    async def process_api(self, block_fn: Any, inputs: list, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            if _names_an_address(inputs):
                raise ValueError("A file is uploaded, not fetched from an address.")
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(html.escape(message(error), quote=False), print_exception=False) from error


def _names_an_address(inputs: Any) -> bool:
    """Whether a file among what a visitor sent is one that gradio would fetch from another machine, however large."""
    waiting = [inputs]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(path := value.get("path"), str) and _ADDRESS.match(path):
                return True
            value = value.values()
        waiting += [part for part in value if isinstance(part, (dict, list))]
    return False


class _TooManyFiles(Exception):
    """Raised in the middle of an upload, to end it."""


class BodyLimit:
    """ASGI: a request that is too large is refused before it is read. With ``quotas``, uploads are counted as well."""

    def __init__(self, app: ASGIApp, quotas: Quotas | None = None):
        self.app, self._quotas = app, quotas
        if quotas:
            self._uploads = RateLimit(quotas.uploads_per_hour, 3600)
            self._upload_bytes = RateLimit(quotas.upload_bytes_per_hour, 3600)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, send)
        upload = scope["path"].removeprefix(scope.get("root_path", "")) == UPLOAD_ROUTE
        length = dict(scope["headers"]).get(b"content-length", b"")
        limit = MAX_UPLOAD_BYTES if upload else MAX_BODY_BYTES
        if not length.isdigit():
            refusal = JSONResponse({"error": "a request must say how long it is"}, 411)
        elif len(length) > 18 or int(length) > limit:
            words = f"a request has at most {format_bytes(limit)}, this one {length[:18].decode()} bytes"
            refusal = JSONResponse({"error": words}, 413)
        elif upload and (words := self._over_quota(scope, int(length))):
            refusal = JSONResponse({"error": words}, 429)
        elif upload:
            return await self._upload(scope, receive, send)
        else:
            return await self.app(scope, receive, send)
        await refusal(scope, receive, send)

    def _over_quota(self, scope: Scope, length: int) -> str:
        """Which quota an upload exceeds, in words; empty if none."""
        address = client_address(scope)
        if self._quotas and not self._uploads.allow(address):
            most = f"{self._quotas.uploads_per_hour} uploads"
            return f"on this public page at most {most} an hour are taken from one visitor"
        if self._quotas and not self._upload_bytes.allow(address, length):
            most = format_bytes(self._quotas.upload_bytes_per_hour)
            return f"on this public page at most {most} an hour are taken from one visitor"
        return ""

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts the files while they come in: gradio would take a thousand."""
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        delimiter = b"--" + boundary_of(kinds[0] if kinds else b"")  # of two, gradio goes by the first
        count, end = 0, b""

        async def counting() -> Message:
            nonlocal count, end
            part = await receive()
            body = end + part.get("body", b"")
            count += body.count(delimiter)
            end = body[1 - len(delimiter) :]  # shorter than what is looked for, so that nothing is counted twice
            if count > MAX_UPLOAD_FILES + 1:  # one more stands after the last part
                raise _TooManyFiles
            return part

        try:
            await self.app(scope, counting, send)
        except _TooManyFiles:
            await JSONResponse({"error": f"at most {MAX_UPLOAD_FILES} files can be uploaded at once"}, 413)(
                scope, receive, send
            )


class SameOrigin:
    """ASGI: what another page makes a browser send is refused. Programs, which send no Origin, are not concerned.
    Nor is anything fetched from another machine, which gradio would do for ``/gradio_api/file=https://...``.

    ``names``: of hosts that this server is reached under besides the request's own, such as a proxy's.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()):
        self.app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and re.search(r"https?:/", scope["path"], re.IGNORECASE):
            refusal = JSONResponse({"error": "this server fetches nothing from other machines"}, 403)
            return await refusal(scope, receive, send)
        origin = headers.get(b"origin", b"").decode("latin-1")
        if scope["type"] == "http" and scope["method"] != "GET" and origin:
            there = urlsplit(origin)
            same = there.netloc == headers.get(b"host", b"").decode("latin-1")
            if not same and there.hostname not in self._names:
                refusal = JSONResponse({"error": "requests of other sites' pages are not answered"}, 403)
                return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


def own_names(bind_address: str, extra: Sequence[str] = ()) -> list[str]:
    """The hosts that a server at ``bind_address`` is called, so that no other name leads to it (DNS rebinding)."""
    names = [*THIS_MACHINE, *extra, *filter(None, [os.environ.get("SPACE_HOST")])]
    if bind_address in ("0.0.0.0", "::"):
        addresses = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries]
        names += [socket.gethostname(), socket.getfqdn(), *(address for address in addresses if "." in address)]
    elif bind_address not in names:
        names.append(bind_address)
    return names


def keep_in_bounds(page: gr.Blocks, engine: Engine) -> None:
    """Deletes the results, and the files that visitors brought or were given, that are too old or too many.

    None that somebody looks at. Without quotas, nothing.
    """
    if quotas := engine.quotas:
        engine.results.prune(quotas.kept_seconds, quotas.kept_bytes)
        engine.results.prune_files(served_files(page), quotas.kept_seconds, quotas.kept_bytes)


def start_cleaning(page: gr.Blocks, engine: Engine) -> None:
    """Has :func:`keep_in_bounds` done every few seconds, as long as the program runs."""

    def clean() -> None:
        while True:
            time.sleep(CLEANING_SECONDS)
            try:
                keep_in_bounds(page, engine)
            except Exception as error:  # whatever it was, the next time comes
                message(error)

    threading.Thread(target=clean, name="syncam-cleaning", daemon=True).start()


async def no_such_endpoint(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "there is no endpoint of this name: see /gradio_api/info"}, 404)


def health_route(engine: Engine) -> Route:
    """``/healthz``: 200 as long as jobs are worked on, and what the server is busy with."""

    async def healthz(request: Request) -> JSONResponse:
        status = {
            "status": "ok" if engine.working else "no job is worked on",
            "model": engine.default,
            "model_status": engine.status(engine.default),
            "jobs": len(engine.jobs.unfinished()),
        }
        return JSONResponse(status, 200 if engine.working else 503)

    return Route("/healthz", healthz)


def launch_options(
    engine: Engine, bind_address: str = THIS_MACHINE[0], host_names: Sequence[str] = (), auth: str = ""
) -> dict[str, Any]:
    """What ``launch`` needs for the page to look and behave as meant, and to ask no other machine for anything.

    Args: ``host_names``: what else the server is called, such as by a proxy; ``auth``: "name:password" to be asked for.
    """
    return {
        "theme": theme(),
        "css": (HERE / "studio.css").read_text("utf-8"),
        "js": (HERE / "studio.js").read_text("utf-8"),
        "footer_links": ["api", "settings"],
        "show_error": True,
        "ssr_mode": False,
        "run_history": False,
        "max_file_size": MAX_UPLOAD_BYTES,
        **({"auth": tuple(auth.split(":", 1))} if auth else {}),
        "app_kwargs": {
            "routes": [static_route(), health_route(engine)],
            "middleware": [
                Middleware(TrustedHostMiddleware, allowed_hosts=own_names(bind_address, host_names)),
                Middleware(SameOrigin, names=[*host_names, *filter(None, [os.environ.get("SPACE_HOST")])]),
                Middleware(BodyLimit, quotas=engine.quotas),
            ],
            "exception_handlers": {NoSuchEndpoint: no_such_endpoint},
        },
    }

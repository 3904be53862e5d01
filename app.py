"""Starts the page: ``python app.py``, then open http://127.0.0.1:7860. A Space runs this file."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress

from syncam import zero_gpu
from syncam.model_card import KNOWN_MODELS
from syncam.studio.engine import Engine
from syncam.studio.job_log import set_up_logging
from syncam.studio.layout import build_studio
from syncam.studio.quotas import Quotas
from syncam.studio.server import THIS_MACHINE, launch_options, start_cleaning

ON_A_SPACE = "SPACE_ID" in os.environ


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="SynCam Studio: one prompt, several cameras, one moment in time.")
    # A Space is reached from outside its container; anywhere else only this machine may ask.
    parser.add_argument("--host", default="0.0.0.0" if ON_A_SPACE else THIS_MACHINE[0], help="the address to listen on")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        help=f"models to choose from, the first loaded at once: embedded, {', '.join(KNOWN_MODELS)}, or folders with "
        "a syncam.json (default: all known ones; embedded alone if others can reach the page)",
    )
    parser.add_argument(
        "--public",
        action="store_true",
        default=ON_A_SPACE,
        help="strangers may use it: quotas on jobs, their time, uploads, and results kept (a Space always has them)",
    )
    parser.add_argument("--host-name", nargs="+", default=[], metavar="NAME", help="what else the server is called")
    parser.add_argument(
        "--auth",
        default=os.environ.get("SYNCAM_AUTH", ""),
        metavar="NAME:PASSWORD",
        help="ask visitors for this (better in the environment variable SYNCAM_AUTH, which other users can't see)",
    )
    parser.add_argument("--log-json", action="store_true", help="log one JSON object per line")
    arguments = parser.parse_args()
    if arguments.auth and not all(arguments.auth.partition(":")):
        parser.error("--auth must be NAME:PASSWORD")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    set_up_logging(arguments.log_json)
    own = arguments.host == THIS_MACHINE[0] and not arguments.public  # strangers must not make it download gigabytes
    try:
        offered = ["embedded", *KNOWN_MODELS] if own else zero_gpu.DEFAULT_MODELS if zero_gpu.ACTIVE else ["embedded"]
        engine = Engine(arguments.model or offered, quotas=Quotas() if arguments.public else None)
        engine.results.require_writable()
        if zero_gpu.ACTIVE:  # what is to run on a lent GPU must be there before the page is
            with suppress(ValueError):  # the page shows why; the embedded model stands in
                engine.load(engine.default)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an orderly end: half-written results are removed
        page = build_studio(engine)
        options = launch_options(engine, arguments.host, arguments.host_name, arguments.auth)
        page.launch(server_name=arguments.host, server_port=arguments.port, prevent_thread_lock=True, **options)
    except (ValueError, OSError) as error:
        reason = str(error)
        if "empty port" in reason:
            reason = f"port {arguments.port or '7860 to 7959'} is in use: choose another with --port"
        print(f"app.py: {reason}", file=sys.stderr)
        return 2
    start_cleaning(page, engine)
    engine.start()  # after the page is up: it imports torch
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Starts the page: ``python app.py``, then open http://127.0.0.1:7860. A Space runs this file."""

import argparse
import os
import signal
import sys
from contextlib import suppress

from syncam import zero_gpu
from syncam.model_card import KNOWN_MODELS
from syncam.studio.engine import Engine
from syncam.studio.layout import build_studio
from syncam.studio.server import launch_options

THIS_MACHINE = "127.0.0.1"


def main() -> int:
    parser = argparse.ArgumentParser(description="SynCam Studio: one prompt, several cameras, one moment in time.")
    # A Space is reached from outside its container; anywhere else only this machine may ask.
    parser.add_argument("--host", default="0.0.0.0" if "SPACE_ID" in os.environ else THIS_MACHINE)
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        help=f"models to choose from, the first loaded at once: embedded, {', '.join(KNOWN_MODELS)}, or folders with "
        "a syncam.json (default: all known ones; embedded alone if others can reach the page)",
    )
    arguments = parser.parse_args()
    own = arguments.host == THIS_MACHINE  # strangers must not make a server download gigabytes
    try:
        offered = ["embedded", *KNOWN_MODELS] if own else zero_gpu.DEFAULT_MODELS if zero_gpu.ACTIVE else ["embedded"]
        engine = Engine(arguments.model or offered)
        engine.results.require_writable()
        if zero_gpu.ACTIVE:  # what is to run on a lent GPU must be there before the page is
            with suppress(ValueError):  # the page shows why; the embedded model stands in
                engine.load(engine.default)
    except (ValueError, OSError) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an orderly end: half-written results are removed
    page = build_studio(engine)
    page.launch(server_name=arguments.host, server_port=arguments.port, prevent_thread_lock=True, **launch_options())
    engine.start()  # after the page is up: it imports torch
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())

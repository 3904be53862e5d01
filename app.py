"""Starts the page: ``python app.py``, then open http://127.0.0.1:7860. A Space runs this file."""

import argparse
import os
import signal
import sys

from syncam.studio.jobs import Engine
from syncam.studio.layout import build_studio, launch_options


def main() -> int:
    parser = argparse.ArgumentParser(description="SynCam Studio: one prompt, several cameras, one moment in time.")
    # A Space is reached from outside its container; anywhere else only this machine may ask.
    parser.add_argument("--host", default="0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument("--model", default="embedded", help="embedded, or a folder of weights with a syncam.json")
    arguments = parser.parse_args()
    try:
        engine = Engine(arguments.model)
    except ValueError as error:
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

"""The command that tries a large model at full size before anybody pays for a GPU: ``rehearse``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from syncam.commands.options import MODEL_SETTINGS


def add_rehearse(commands) -> None:
    command = commands.add_parser(
        "rehearse", help="run a large model at full size with random weights; measure each stage beside its plan"
    )
    command.add_argument("model", help="a large model's name, such as wan2.1-1.3b")
    command.add_argument("--views", type=int, default=2, help="cameras (%(default)s)")
    command.add_argument("--layers", type=int, default=0, help="blocks of the transformer, where memory is short (all)")
    command.add_argument("--text-encoder", action="store_true", help="the real one, 12 GB on disk, not a single block")
    command.add_argument("--folder", type=Path, help="where the random weights are written and kept (the cache)")
    command.add_argument("--out", type=Path, help="also write the table to this file")
    for name, kind, what in MODEL_SETTINGS:
        command.add_argument(f"--{name}", type=kind, help=f"{what} (the model's own)")
    command.set_defaults(run=rehearse)


def rehearse(options: argparse.Namespace) -> None:
    from syncam.commands.options import model_settings
    from syncam.machine import use_threads
    from syncam.rehearsal import rehearse

    use_threads(spare=0)
    settings = {name: value for name, value in model_settings(options).items() if value is not None}
    table = rehearse(
        options.model,
        options.views,
        options.layers,
        options.text_encoder,
        options.folder,
        lambda line: print(line, file=sys.stderr),
        **settings,
    )
    print(table)
    if options.out:
        options.out.write_text(table + "\n", encoding="utf-8")

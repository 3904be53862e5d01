"""The command line: ``python -m syncam generate | convert | plot | dataset | train | evaluate | ...``.

Each command imports what it needs when it runs, so that ``--help`` and a mistake in an argument are answered at once.
A person's mistake is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

from syncam.commands.generate import add_calibrate, add_generate
from syncam.commands.options import (
    RIG_HELP,
    add_model_options,
    loading_options,
    model_settings,
    numbers,
    path_or_text,
)
from syncam.commands.rehearse import add_rehearse


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    parser = OneLineParser(prog="syncam", description="One prompt, several cameras, one moment in time.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        *(add_generate, add_convert, add_plot, add_dataset),
        *(add_train, add_calibrate, add_evaluate, add_verify, add_benchmark, add_rehearse),
    ):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()) or type(error).__name__)
    except (MemoryError, FloatingPointError) as error:  # nobody's mistake
        print(f"syncam: {error or 'memory ran out'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("syncam: stopped", file=sys.stderr)
        return 130
    except Exception as error:  # a mistake of this program
        print(f"syncam: {unforeseen(error)}", file=sys.stderr)
        return 1


def unforeseen(error: Exception) -> str:
    """One line about an error that nothing was prepared for; where it came from is written to a file."""
    with tempfile.NamedTemporaryFile("w", prefix="syncam-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.writelines(traceback.format_exception(error))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this went wrong and was not foreseen ({what:.200}); the details are in {log.name}"


class ListFormats(argparse.Action):
    """Prints the table of formats and ends, as ``--help`` does."""

    def __call__(self, parser, namespace, values, option_string=None):
        from syncam.rig_formats import format_table

        print(format_table())
        parser.exit()


def add_convert(commands) -> None:
    from syncam.rig_formats import FILE_NAMES

    command = commands.add_parser("convert", help="camera files of other programs: read one, write another")
    command.add_argument("--list", nargs=0, action=ListFormats, help="list the formats that are read and written")
    command.add_argument("source", metavar="IN", help=f"{RIG_HELP}; recognised by what is in it, not by its name")
    command.add_argument("out", metavar="OUT", type=Path, help="the new file, or a folder for a COLMAP model")
    command.add_argument("--to", metavar="FORMAT", help=f"{', '.join(FILE_NAMES)} (what OUT's name tells)")
    command.add_argument("--num-frames", type=int, help="moments of moving cameras (the file's own, else 81)")
    add_choice(command)
    command.set_defaults(run=convert)


def add_choice(command) -> None:
    """The options that choose some of a file's cameras, or make others of its poses."""
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--num-cameras", type=int, help="only so many of them, spread evenly")
    choice.add_argument("--cameras", type=numbers, metavar="1,4,7", help="only these, counted from 1, in this order")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument("--as-path", action="store_true", help="the file's poses are those of ONE camera that moves")
    kind.add_argument("--as-stills", action="store_true", help="each pose is a camera of its own that stands still")


def chosen_cameras(options: argparse.Namespace):
    from syncam.rig_formats import read_cameras

    file = read_cameras(path_or_text(options.source))
    file = file.as_stills() if options.as_stills else file  # before the choice: it is made among them
    file = file.pick(options.cameras or options.num_cameras)
    return file.as_path(by_name=not options.cameras) if options.as_path else file


def convert(options: argparse.Namespace) -> None:
    from syncam.rig_formats import V2_FRAMES, changes_on_export, format_of_name, write_cameras

    to, file = options.to or format_of_name(options.out), chosen_cameras(options)
    num_frames = options.num_frames
    if num_frames is None and to == "syncamvideo-v2" and file.num_frames == 1:
        num_frames = V2_FRAMES  # as published files have it, also of cameras that stand still
    written = write_cameras(options.out, file, to, num_frames=num_frames)
    count = f"{len(file.cameras)} camera{'s' if len(file.cameras) > 1 else ''}"
    print(f"{file.note} {count} written as {to}: {', '.join(map(str, written))}\n{file.lenses}")
    for change in changes_on_export(file, to):
        print(change)


def add_plot(commands) -> None:
    command = commands.add_parser("plot", aliases=["preview"], help="draw cameras in 3D")
    command.add_argument("source", metavar="POSE_FILE", help=RIG_HELP)
    command.add_argument("-o", "--out", required=True, type=Path, help="an .html or .png file")
    add_choice(command)
    command.set_defaults(run=plot)


def plot(options: argparse.Namespace) -> None:
    from syncam.rig_plot import save_rig_plot

    file = chosen_cameras(options)
    save_rig_plot(options.out, file)
    print(f"{file.note} {len(file.cameras)} cameras drawn in {options.out}")


def add_dataset(commands) -> None:
    command = commands.add_parser(
        "dataset", help="multi-camera videos in SynCamVideo's layout: render, generate, check"
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="render | generate | check")
    render = actions.add_parser("render", help="the toy world's scenes")
    generate = actions.add_parser("generate", help="scenes made with a model")
    check = actions.add_parser("check", help="read everything, and name what is broken")
    for action in (render, generate, check):
        address = "a folder" if action is check else "a folder, or any address that fsspec knows (s3://bucket/name)"
        action.add_argument("folder", help=f"the dataset: {address}")
    for action in (render, generate):
        action.add_argument("--layout", default="v2", help="v1 or v2 (%(default)s)")
        action.add_argument("--seed", type=int, default=0, help="the same seed gives the same dataset (%(default)s)")
        add_cluster_options(action)
    render.add_argument("--num-scenes", type=int, default=100, help="to train on (%(default)s)")
    render.add_argument("--num-val-scenes", type=int, default=0, help="to validate on (%(default)s)")
    render.add_argument("--num-views", type=int, default=10, help="cameras of each scene (%(default)s)")
    render.add_argument("--num-frames", type=int, help="of each clip (17)")
    render.add_argument("--size", type=int, help="width and height in pixels (128)")
    render.add_argument("--moving", type=float, default=0.0, help="how many of the cameras move, 0 to 1 (%(default)s)")
    render.add_argument("--rings", action="store_true", help="cameras on one of the published rings of 36 a scene")
    render.add_argument("--num-subjects", type=int, choices=(1, 2), default=1, help="in every scene")
    what = "write depth (metres, inf is sky) too, as depth/cam01.npz"
    render.add_argument("--depth", dest="layers", action="append_const", const="depth", help=what)
    what = "write which subject a pixel shows (-1 is none) too, as masks/cam01.npz"
    render.add_argument("--masks", dest="layers", action="append_const", const="masks", help=what)
    generate.add_argument("--prompts", required=True, type=Path, help="a text file, one prompt a line")
    generate.add_argument(
        "--rig",
        required=True,
        action="append",
        help=f"{RIG_HELP}; again for more: each prompt is generated with each rig",
    )
    add_model_options(generate)
    render.set_defaults(run=dataset_render)
    generate.set_defaults(run=dataset_generate)
    check.set_defaults(run=dataset_check)


def add_cluster_options(command) -> None:
    command.add_argument(
        "--on",
        metavar="ray",
        help="share the work among one process per GPU of a Ray cluster: 'ray' (the running one, else one for the "
        "time being) or its address; needs pip install 'syncam[cluster]' (this process alone)",
    )
    command.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="processes on it (one per GPU; without GPUs one per machine, of all its cores)",
    )


def dataset_render(options: argparse.Namespace) -> int:
    from syncam.datasets import render_dataset

    names = [*("layout", "num_scenes", "num_val_scenes", "num_views", "num_frames", "size", "moving", "seed")]
    names += ["rings", "num_subjects", "on", "num_workers"]
    given = {name: getattr(options, name) for name in names}
    return min(1, render_dataset(options.folder, **given, layers=options.layers or ()))


def dataset_generate(options: argparse.Namespace) -> int:
    """Exit code 1 if a scene failed."""
    from syncam.datasets import generate_dataset
    from syncam.machine import use_threads
    from syncam.rig_formats import read_rig

    prompts = [line.strip() for line in options.prompts.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    rigs = [read_rig(path_or_text(rig)) for rig in options.rig]
    use_threads(spare=0)
    given = (options.folder, options.layout, options.model, prompts, rigs, options.seed, loading_options(options))
    failed = generate_dataset(*given, options.on, options.num_workers, **model_settings(options))
    return min(1, failed)


def dataset_check(options: argparse.Namespace) -> int:
    """Exit code 1 if something is broken."""
    from syncam.datasets import check

    lines, problems = check(Path(options.folder))
    print(lines)
    return min(1, problems)


def add_train(commands) -> None:
    command = commands.add_parser(
        "train", help="train the embedded model, or the multi-view module of another; resumes where it was"
    )
    command.add_argument("--out", type=Path, help="folder of the run (runs/embedded or runs/module)")
    command.add_argument(
        "options",
        nargs="*",
        metavar="NAME=VALUE",
        help="such as multiview_steps=4000 compile=true; model=NAME_OR_FOLDER trains the module in that base model",
    )
    command.set_defaults(run=train)


def train(options: argparse.Namespace) -> None:
    known = {"out": options.out} if options.out else {}
    if any(word.startswith("model=") for word in options.options):
        from syncam.training.module import ModuleConfig, train_module

        made = train_module(ModuleConfig.from_words(options.options, **known))
    else:
        from syncam.training.embedded import EmbeddedConfig, train_embedded

        made = train_embedded(EmbeddedConfig.from_words(options.options, **known))
    print(f"trained model: {made}")


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="measure synchrony and cameras against the rendered truth")
    command.add_argument("--model", default="embedded", help="a model's name or a folder of weights (embedded)")
    command.add_argument("--out", type=Path, default=Path("outputs/evaluation"), help="folder (%(default)s)")
    command.add_argument(
        "--num-scenes",
        type=int,
        default=6,
        help="held-out scenes (%(default)s); each takes about a minute on two cores",
    )
    command.add_argument("--seed", type=int, default=0, help="which held-out scenes (%(default)s)")
    command.add_argument("--sweep", action="store_true", help="quality against steps, solver and guidance instead")
    add_cluster_options(command)
    command.set_defaults(run=evaluate)


def evaluate(options: argparse.Namespace) -> None:
    from syncam.evaluation import table

    given = (options.model, options.out, options.num_scenes, options.seed)
    if options.sweep and options.on:
        raise ValueError("--sweep measures seconds too, so it runs in one process: leave out --on")
    print(table.sweep(*given) if options.sweep else table.evaluate(*given, options.on, options.num_workers))


def add_verify(commands) -> None:
    command = commands.add_parser("verify", help="compare with recorded outputs of the published code")
    command.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="reference .safetensors files")
    command.set_defaults(run=verify)


def verify(options: argparse.Namespace) -> int:
    """Exit code 1 if any file differs, 2 if one could not be read."""
    from syncam.evaluation.verify import verify

    code = 0
    for row in verify(options.paths):
        print(row, file=sys.stderr if row.problem else sys.stdout, flush=True)
        code = max(code, 2 if row.problem else 0 if row.agrees else 1)
    return code


def add_benchmark(commands) -> None:
    command = commands.add_parser("benchmark", help="measure a denoising step against what this machine can do")
    command.add_argument("--out", type=Path, help="also write the table to this file")
    command.add_argument("--rounds", type=int, default=3, help="the least time of so many counts (%(default)s)")
    command.set_defaults(run=benchmark)


def benchmark(options: argparse.Namespace) -> None:
    from syncam.evaluation.benchmark import benchmark

    table = benchmark(options.rounds)
    print(table)
    if options.out:
        options.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

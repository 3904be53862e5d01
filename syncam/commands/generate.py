"""The commands that run a model for a person: ``generate`` and ``calibrate``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from syncam.commands.options import (
    RIG_HELP,
    add_model_options,
    interval,
    json_file,
    load_pipeline,
    loading_options,
    model_settings,
    path_or_text,
)

if TYPE_CHECKING:
    from syncam.model_card import ModelCard
    from syncam.shot import ResolvedShot, Shot
    from syncam.view_ranks import ViewRanks


def add_generate(commands) -> None:
    command = commands.add_parser("generate", help="one synchronised video per camera")
    command.add_argument("prompt", nargs="?", help="the scene, such as 'a horse galloping on a meadow'")
    command.add_argument("--rig", required=True, help=RIG_HELP)
    command.add_argument(
        "--as-path", action="store_true", help="the rig file's poses are those of ONE camera that moves, not of many"
    )
    command.add_argument("--out", required=True, type=Path, help="folder for the results")
    command.add_argument(
        "--more",
        type=Path,
        metavar="RESULT_FOLDER",
        help="add the rig's cameras to this result; prompt, seed and size are the result's unless they are given",
    )
    command.add_argument("--seed", type=int, help="the same seed gives the same videos (random)")
    add_model_options(command)
    command.add_argument(
        "--guidance-interval",
        type=interval,
        default=(0.0, 1.0),
        metavar="BEGIN,END",
        help="the part of the steps that is guided (0,1)",
    )
    command.add_argument("--source-video", help="a video of the scene as camera 1 sees it; the others are generated")
    command.add_argument("--source-guidance-scale", type=float, help="how strictly it is followed (the model's own)")
    command.add_argument("--view-guidance-scale", type=float, help="how much the views agree (the model's own)")
    command.add_argument(
        "--mag-cache",
        type=float,
        default=0.0,
        metavar="THRESHOLD",
        help="leave out steps that would change less, such as 0.03: faster, not quite the same (0)",
    )
    command.add_argument("--mag-ratios", type=json_file, metavar="FILE", help="what calibrate wrote (the model's own)")
    command.add_argument("--save-frames", action="store_true", help="also write frames.npy (view, frame, y, x, rgb)")
    command.set_defaults(run=generate)


def generate(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from syncam.distilled import card_of
    from syncam.result import make_result_folder
    from syncam.shot import Progress

    card = card_of(options.model, **loading_options(options))
    shot = card.resolve(asked_for(options))
    ranks = join_ranks()
    if ranks and ranks.rank:  # the first process talks to the person and writes; the others make some of the views
        load_pipeline(options, ranks).generate(ranks.of_first(shot))
        return ranks.leave()
    make_result_folder(options.out)
    say_what_is_unusual(options, card, shot)
    pipeline = load_pipeline(options, ranks)
    if ranks:
        ranks.of_first(shot)  # whose seed may be chance's
    print(pipeline.plan(shot), file=sys.stderr)
    with tqdm(total=shot.num_inference_steps, desc=f"{len(shot.rig)} views", unit="step") as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.num_steps
            bar.update(progress.step - bar.n)

        video = pipeline.generate(shot, on_step=show)
    written = video.save(options.out, save_frames=options.save_frames)
    print(f"seed {shot.seed}: {', '.join(path.name for path in written)} in {options.out}")
    if ranks:
        ranks.leave()


def say_what_is_unusual(options: argparse.Namespace, card: ModelCard, shot: ResolvedShot) -> None:
    """About the model, and about what it has not seen before."""
    from syncam.model_card import KNOWN_MODELS

    if options.model in KNOWN_MODELS:
        print(card.note, file=sys.stderr)
    if unknown := card.unknown_words(shot.prompt):
        known = ", ".join(card.vocabulary)
        print(f"{card.title} does not know: {', '.join(unknown)}. It knows: {known}", file=sys.stderr)
    for reason in card.outside_trained_range(shot.rig):
        print(f"outside the trained range: {reason}", file=sys.stderr)


def join_ranks() -> ViewRanks | None:
    """The processes that torchrun started together with this one; None if it started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from syncam.view_ranks import ViewRanks

    return ViewRanks.join()


def asked_for(options: argparse.Namespace) -> Shot:
    """The shot that the options describe, not yet checked against a model."""
    from syncam.extend_result import with_more_cameras
    from syncam.rig_formats import read_cameras
    from syncam.shot import Shot

    cameras = read_cameras(path_or_text(options.rig))
    if isinstance(path_or_text(options.rig), Path):
        print(cameras.note, file=sys.stderr)
    rig = (cameras.as_path() if options.as_path else cameras).choose()
    names = {field.name for field in fields(Shot)} - {"rig", "given_views"}
    settings = {name: getattr(options, name) for name in names}
    if options.more:
        return with_more_cameras(options.more, rig, **settings)
    if options.prompt is None:
        raise ValueError("a prompt is needed, such as 'a horse galloping on a meadow', or --more RESULT_FOLDER")
    return Shot(rig=rig, **settings)


def add_calibrate(commands) -> None:
    command = commands.add_parser("calibrate", help="measure what --mag-cache goes by, in one run of a model")
    command.add_argument("prompt", help="any scene that the model knows")
    command.add_argument("--rig", required=True, help=RIG_HELP)
    command.add_argument("--out", type=Path, help="a .json file, for --mag-ratios (the model's own card)")
    command.add_argument("--seed", type=int, default=0, help="of the run (%(default)s)")
    add_model_options(command)
    command.set_defaults(run=calibrate)


def calibrate(options: argparse.Namespace) -> None:
    from syncam.checksums import write_card
    from syncam.distilled import card_of
    from syncam.model_card import model_folder
    from syncam.rig_formats import read_rig
    from syncam.shot import Shot

    shot = Shot(options.prompt, read_rig(path_or_text(options.rig)), seed=options.seed, **model_settings(options))
    card, folder = card_of(options.model, **loading_options(options)), model_folder(options.model)
    card.resolve(shot)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    elif not folder.is_dir():
        raise ValueError(f"{card.name} has no folder to keep them in: say --out FILE.json")
    ratios = [round(ratio, 4) for ratio in load_pipeline(options).calibrate(shot)]
    if options.out:
        options.out.write_text(json.dumps(ratios), encoding="utf-8")
    else:
        write_card(folder, replace(card, mag_ratios=tuple(ratios)))
    print(f"{ratios}\nwritten to {options.out or folder / 'syncam.json'}")

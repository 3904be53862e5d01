"""Does the module learn in CogVideoX? A tiny one is taught a corner of the toy world, then its module.

    python -m tests.tools.prove_cogvideox OUT [NAME=VALUE ...]

The base model has CogVideoX's own transformer and text encoder, small and random to begin with, and the patch codec for
an autoencoder. It is trained on single views without cameras; then it is frozen and the module is trained, the way that
``python -m syncam train model=...`` trains one in a large base model. Options are those of that command. It takes about
half an hour of one core; then OUT has the weights, their loss, and contact sheets of the first held-out scenes.
"""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from PIL import Image
from transformers import T5Config, T5EncoderModel

from syncam import toyworld
from syncam.backbones import loading
from syncam.backbones.cogvideox import CogVideoXBackbone
from syncam.backbones.embedded import PatchCodec, build_tokenizer, clip_to_float
from syncam.cameras import OrbitCamera, Rig
from syncam.evaluation.measures import measure_scene
from syncam.evaluation.table import held_out
from syncam.model_card import ModelCard
from syncam.pipeline import Pipeline
from syncam.training.module import ModuleConfig, train_module

SIZE, NUM_FRAMES, Z_DIM = 64, 9, 32
WORDS = 6  # of a caption that are read: "a big red ball is standing"; the rest is the same for all scenes
CORNER = {"kind": "ball", "size": "big", "motion": "still", "pattern": "tiles", "tone": "stone", "sky": "clear"}


def stay_in_a_corner() -> None:
    """Of the world: balls of any colour anywhere on one floor, cameras in front. Minutes are enough to learn it."""
    sample = toyworld.Scene.sample

    def ball(rng: random.Random, **said: str) -> toyworld.Scene:
        scene = sample(rng, **CORNER)
        subject = replace(scene.subject, x_m=2 * scene.subject.x_m, y_m=2 * scene.subject.y_m)
        return replace(scene, subjects=(subject,))  # where is what the views have to agree on

    def rig(rng: random.Random, num_views: int, moving: float = 0.0) -> Rig:
        places = ((rng.uniform(4, 6), rng.uniform(10, 30), rng.uniform(-30, 30)) for _ in range(num_views))
        return Rig(tuple(OrbitCamera(*place) for place in places))

    toyworld.Scene.sample, toyworld.sample_rig = ball, rig


def save_start(folder: Path) -> None:
    """A CogVideoX for the toy world, all of it random but for the codec, which is fitted."""
    torch.manual_seed(0)
    clips = []
    for number in range(150):
        rng = random.Random(f"codec {number}")
        scene, rig = toyworld.Scene.sample(rng), toyworld.sample_rig(rng, 1)
        clips.append(clip_to_float(toyworld.record(scene, rig, NUM_FRAMES, SIZE).frames))
    codec = PatchCodec.fit(clips, Z_DIM)
    # what CogVideoX asks of its own autoencoder
    scale = {"block_out_channels": [1] * 5, "temporal_compression_ratio": 4}
    codec.register_to_config(**scale, scaling_factor=1 / codec.config.latents_std[0])
    tokenizer = build_tokenizer(toyworld.all_captions())
    text = T5Config(vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=5,
        attention_head_dim=32,
        in_channels=Z_DIM,
        out_channels=Z_DIM,
        time_embed_dim=128,
        text_embed_dim=64,
        num_layers=5,
        sample_width=4,
        sample_height=4,
        sample_frames=NUM_FRAMES,
        patch_size=1,
        max_text_seq_length=WORDS,
    )
    # large smooth patches stay readable under little noise: most of the levels must be far up
    noise = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 16.0}
    scheduler = CogVideoXDDIMScheduler(**noise, timestep_spacing="trailing")
    CogVideoXPipeline(tokenizer, T5EncoderModel(text), codec, transformer, scheduler).save_pretrained(folder)


def measured(pipeline: Pipeline, num_scenes: int) -> tuple[str, np.ndarray]:
    """A row of the table, and a contact sheet of a few scenes."""
    rows, sheet = [], []
    for number in range(num_scenes):
        scene, shot = held_out(0, number)
        video = pipeline.generate(replace(shot, num_inference_steps=12, guidance_scale=1.0))
        rows.append(measure_scene(video, scene))
        if number < 6:
            truth = toyworld.record(scene, shot.rig, NUM_FRAMES, SIZE)
            sheet += [np.concatenate([view[t] for view in v.frames for t in (0, 4, 8)], 1) for v in (truth, video)]
    found, colour, errors = (
        np.concatenate([np.ravel(row[k]) for row in rows]) for k in ("found", "colour", "reprojection")
    )
    medians = [row["reprojection"].mean() for row in rows if len(row["reprojection"])]
    figures = (
        f"{100 * found.mean():.0f} % | {100 * colour.mean():.0f} % | {errors.mean():.2f} | {np.median(medians):.2f} |"
    )
    return figures, np.concatenate(sheet)


def main() -> None:
    out, words = Path(sys.argv[1]), sys.argv[2:]
    stay_in_a_corner()
    if not (out / "start").exists():
        save_start(out / "start")
    defaults = {"width": SIZE, "height": SIZE, "num_frames": NUM_FRAMES, "relative_poses": False, "num_scenes": 600}
    defaults |= {"scenes_per_step": 12, "base_steps": 1500, "steps": 1200, "muon_lr": 4e-3, "adamw_lr": 2e-3}
    config = ModuleConfig.from_words([f"model={out / 'start'}", *words], out=out, **defaults)
    weights, base = train_module(config), str(out / "base")
    card = ModelCard.load(str(weights))
    alone = Pipeline(loading.assemble(CogVideoXBackbone, card, "", torch.float32, base))
    torch.set_num_threads(1)
    print("| | found | colour as asked | reprojection error, % of width, mean | median over scenes |")
    for name, pipeline in (("base", alone), ("with the module", Pipeline.load(str(weights), base=base))):
        figures, sheet = measured(pipeline, 24)
        print(f"| {name} | {figures}", flush=True)
        Image.fromarray(sheet).save(out / f"{name.split()[-1]}.png")


if __name__ == "__main__":
    main()

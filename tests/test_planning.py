"""What a run needs, predicted without allocating it; what does not fit is refused with what would."""

import math
import subprocess
import sys
import time
from collections import deque

import psutil
import pytest
import torch
from accelerate import init_empty_weights
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from syncam.backbones import loading
from syncam.backbones.wan import MultiViewWanTransformer
from syncam.cameras import Rig
from syncam.counting import Cost, cost_of
from syncam.machine import (
    CGROUP_FILES,
    attention_is_fused,
    best_device,
    cgroup_free_bytes,
    is_out_of_memory,
    matmul_rate,
)
from syncam.model_card import KNOWN_MODELS
from syncam.pipeline import BACKBONES, Pipeline
from syncam.planning import Plan, choose_offload
from syncam.shot import Shot
from syncam.units import GIB, format_bytes, format_duration
from tests.tiny import FAMILIES, WAN, randomised, save_base

RIG = Rig.from_text("5,15,-30;5,15,0;5,15,30;5,15,60")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load()


def shot(**settings) -> Shot:
    return Shot("a red ball on the sand", RIG, seed=3, **settings)


def full_size(num_views: int, chunks=(None, None)) -> Cost:
    """Of one layer of Wan 1.3B at 832x480, 81 frames, without its weights."""
    with torch.device("meta"):
        model = MultiViewWanTransformer(num_layers=1).bfloat16()
        model.set_chunking(*chunks)
        latents = torch.empty(num_views, 16, 21, 60, 104, dtype=torch.bfloat16)
        text = torch.empty(num_views, 512, 4096, dtype=torch.bfloat16)
        cameras, timestep = torch.empty(1, num_views, 21, 12), torch.empty(num_views)
        return cost_of(lambda: model(latents, timestep, text, attention_kwargs={"cameras": cameras}))


def test_bytes_are_counted_while_they_live():
    a = torch.empty(1000, device="meta")

    def run():
        b = a + 1  # 4000 bytes
        c = b * 2  # and 4000 more
        del b
        d = c.view(10, 100) - 1  # a view is free; this takes the place of b
        return d

    assert cost_of(run).peak_bytes == 8000


def test_a_deep_model_holds_no_more_at_once_than_one_block_of_it():
    """So one block is enough to plan by; weights are not what a run makes, though their views pass by."""

    def peak(num_layers: int) -> int:
        with torch.device("meta"):
            model = MultiViewWanTransformer(**{**WAN, "num_layers": num_layers})
            inputs = torch.empty(2, 4, 3, 8, 8), torch.empty(2), torch.empty(2, 8, WAN["text_dim"])
            cameras = torch.empty(1, 2, 3, 12)
            return cost_of(lambda: model(*inputs, attention_kwargs={"cameras": cameras})).peak_bytes

    assert peak(1) == peak(4)


def test_operations_are_counted_as_torch_counts_them_with_attention_as_a_fused_kernel():
    family = FAMILIES["wan"]
    with torch.device("meta"):
        model = family.multi_view_class(**family.config)
        latents, cameras = torch.empty(2, 4, 3, 8, 8), torch.empty(1, 2, 3, 12)
        text, timestep = torch.empty(2, 8, 16), torch.empty(2)

        def run():
            return model(latents, timestep, text, attention_kwargs={"cameras": cameras})

        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        assert cost_of(run).flops == counter.get_total_flops()


def test_full_size_attention_costs_no_matrix_of_scores_and_chunks_save_most_of_the_rest():
    plain, chunked = full_size(8), full_size(8, (1, 1))
    assert plain.peak_bytes < 16 * GIB, "the scores of 32,760 tokens, unfused, would be 192 GiB"
    assert chunked.peak_bytes < 0.4 * plain.peak_bytes
    assert chunked.flops == plain.flops


def test_cost_is_that_of_the_views_and_of_their_meeting():
    """Two views cost two single ones, and what each looks at in the other: 1,560 more tokens for each of a frame."""
    one, two, three = (full_size(num_views).flops for num_views in (1, 2, 3))
    tokens, dim = 21 * 1560, 1536
    assert two - 2 * one == 2 * 4 * tokens * 1560 * dim
    assert three - 3 * one == 3 * 2 * 4 * tokens * 1560 * dim


def test_predicted_activations_are_what_a_real_forward_holds():
    """On the CPU, for a model in which activations dwarf everything else."""
    config = {**WAN, "attention_head_dim": 48, "ffn_dim": 384, "num_layers": 1, "rope_max_seq_len": 128}
    model = randomised(MultiViewWanTransformer(**config))
    inputs = torch.randn(2, 4, 3, 64, 64), torch.randn(2), torch.randn(2, 8, 16)
    cameras = torch.randn(1, 2, 3, 12)
    with init_empty_weights():
        empty = MultiViewWanTransformer(**config)
    with torch.no_grad():
        predicted = cost_of(
            lambda: empty.to("meta")(
                *(tensor.to("meta") for tensor in inputs), attention_kwargs={"cameras": cameras.to("meta")}
            )
        ).peak_bytes
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model(*inputs, attention_kwargs={"cameras": cameras})
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert predicted == pytest.approx(peak, rel=0.15)


def test_a_plan_is_made_before_anything_runs_and_learns_from_what_did(pipeline):
    plan, guided = pipeline.plan(shot()), {"guidance_scale": 2.0, "view_guidance_scale": 1.5}
    assert plan.fits and plan.chunks == (None, None) and 1e6 < plan.needed_bytes < GIB
    assert pipeline.plan(shot(num_inference_steps=24)).seconds > 1.8 * plan.seconds
    assert pipeline.plan(shot(**guided)).flops > 1.3 * plan.flops
    pipeline.planner.learn(plan, seconds=100.0)
    assert pipeline.plan(shot()).seconds == pytest.approx(100.0)


@pytest.fixture(autouse=True)
def nothing_learned(pipeline):
    pipeline.planner._paces.clear()


def closed_form_and_count(planner, size: tuple[int, ...], chunks=(None, None)) -> tuple[float, int, Cost]:
    """Operations and peak bytes of a forward of all layers, by arithmetic, and as counted."""
    num_views, num_frames, width, height = size
    backbone = planner.backbone
    _, frames, _, _ = backbone.latent_shape(num_frames, width, height)
    tokens = frames * math.prod(backbone.token_grid(width, height))
    counted = planner.count_step(num_views, width, height, num_frames, chunks, num_layers=None)
    flops = num_views * backbone.flops(num_views, frames, tokens)
    return flops, planner._step_bytes(chunks)(num_views, frames, tokens), counted


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 9, 32, 48), (3, 17, 64, 32)])
def test_operations_in_closed_form_are_those_that_are_counted(family, size, tmp_path):
    save_base(family, tmp_path)
    card = next(card for card in KNOWN_MODELS.values() if card.family == family)
    planner = Pipeline(loading.assemble(BACKBONES[family], card, "", torch.float32, str(tmp_path))).planner
    flops, _, counted = closed_form_and_count(planner, size)
    assert flops == pytest.approx(counted.flops, rel=1e-9)


@pytest.mark.parametrize("size", [(1, 17, 256, 256), (8, 5, 256, 256), (4, 17, 512, 384)])
@pytest.mark.parametrize("chunks", [(None, None), (1, 1)])
def test_the_embedded_models_closed_form_is_what_is_counted(pipeline, size, chunks):
    flops, peak_bytes, counted = closed_form_and_count(pipeline.planner, size, chunks)
    assert flops == pytest.approx(counted.flops, rel=1e-9)
    assert peak_bytes == pytest.approx(counted.peak_bytes, rel=0.25)


def test_steps_that_look_closely_are_told_from_those_that_do_not(pipeline):
    """By the tokens that the blocks get in a real run."""
    seen, wanted = [], shot(num_inference_steps=6, guidance_scale=1.0, view_guidance_scale=1.0)
    block = pipeline.backbone.pipe.transformer.blocks[0]
    hook = block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    try:
        pipeline.generate(wanted)
    finally:
        hook.remove()
    backbone, resolved = pipeline.backbone, pipeline.card.resolve(wanted)
    _, frames, _, _ = backbone.latent_shape(resolved.num_frames, resolved.width, resolved.height)
    most = frames * math.prod(backbone.token_grid(resolved.width, resolved.height))
    assert (most * backbone.token_shares(6)).tolist() == seen and len(set(seen)) == 2


def test_an_estimate_takes_less_than_5_ms(pipeline):
    pipeline.plan(shot())
    settings = [{"num_frames": 4 * k + 1, "width": 64 * (j + 1)} for k in range(5) for j in range(8)]
    began = time.thread_time()
    for setting in settings:
        pipeline.plan(shot(**setting))
    assert (time.thread_time() - began) / len(settings) < 0.005


def test_an_estimate_is_not_learned_from_a_run_of_one_step(pipeline):
    plan = pipeline.plan(shot(num_inference_steps=1))
    pace = pipeline.planner.pace
    pipeline.planner.learn(plan, seconds=1000.0)
    assert pipeline.planner.pace == pace


def test_an_estimate_does_not_follow_a_single_slow_run(pipeline):
    plan = pipeline.plan(shot())
    for seconds in (2.0, 2.0, 2.0, 50.0, 2.0):
        pipeline.planner.learn(plan, seconds)
    assert pipeline.plan(shot()).seconds == pytest.approx(2.0)


def test_other_programs_do_not_make_the_processor_seem_slower():
    """It is timed by a clock that stands still while they have it."""
    alone = matmul_rate(torch.device("cpu"), torch.float32)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        crowded = matmul_rate(torch.device("cpu"), torch.float32)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert crowded > alone / 2.5


@pytest.fixture
def cheap_decode(pipeline, monkeypatch):
    """So that the number of views decides what fits."""
    monkeypatch.setattr(pipeline.planner, "_codec_cost", lambda *size: Cost(0, 0))


def test_what_does_not_fit_is_refused_with_the_nearest_that_does(pipeline, cheap_decode, monkeypatch):
    def needed(num_views, **settings):
        return pipeline.plan(Shot("a ball", Rig(RIG.cameras[:num_views]), **settings)).needed_bytes

    free = int((needed(2) + 1) / 0.9)
    monkeypatch.setattr("syncam.planning.HEADROOM", 0.9)
    monkeypatch.setattr("syncam.planning.free_bytes", lambda device: free)
    monkeypatch.setattr("syncam.planning.EXECUTIONS", ((True, (None, None)),))
    heard = []
    with pytest.raises(
        ValueError, match=r"Not enough memory for 4 views of 17 frames at 256x256 \(needs about .* free"
    ):
        pipeline.generate(shot(), on_step=heard.append)
    assert heard == []
    assert pipeline.plan(shot()).instead == "Try 2 views or 5 frames."
    assert pipeline.plan(Shot("a ball", Rig(RIG.cameras[:2]))).fits
    assert pipeline.plan(shot(num_frames=5)).fits and not pipeline.plan(shot(num_frames=9)).fits


def test_what_does_not_fit_in_one_piece_runs_branch_by_branch_and_then_in_chunks(pipeline, cheap_decode, monkeypatch):
    monkeypatch.setattr("syncam.planning.HEADROOM", 1.0)
    free, plans = GIB, []
    monkeypatch.setattr("syncam.planning.free_bytes", lambda device: free)
    for _ in range(3):
        plans.append(pipeline.plan(shot(view_guidance_scale=1.5)))
        free = plans[-1].needed_bytes - 1
    assert all(plan.fits for plan in plans)
    assert [(plan.branches_in_batch, plan.chunks) for plan in plans] == [
        (True, (None, None)),
        (False, (None, None)),
        (False, (1, 1)),
    ]
    assert plans[0].flops == pytest.approx(plans[1].flops, rel=0.01)


def test_what_would_take_days_is_refused(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.planner, "_paces", deque([1e6]))
    with pytest.raises(ValueError, match="Not enough time for 4 views .*days"):
        pipeline.generate(shot())


def test_a_large_run_is_refused_where_attention_is_not_fused(pipeline, monkeypatch):
    assert attention_is_fused(torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH):
        assert not attention_is_fused(torch.device("cpu"))
        assert pipeline.plan(shot()).fits, "a small one may run"
        monkeypatch.setattr("syncam.planning.LARGE_ATTENTION_TOKENS", 10)
        with pytest.raises(ValueError, match="no fused attention kernel"):
            pipeline.generate(shot())


def test_an_accelerator_that_is_not_there_is_not_used(monkeypatch):
    """A build of PyTorch for CUDA names CUDA also on a computer without one."""
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda *args: torch.device("cuda"))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    assert best_device() == torch.device("cpu")


def test_weights_are_kept_where_they_fit():
    sizes = {"text_encoder": 10 * GIB, "transformer": 3 * GIB, "vae": GIB}
    assert choose_offload(sizes, 48 * GIB) == "none"
    assert choose_offload(sizes, 24 * GIB) == "model"
    assert choose_offload(sizes, 8 * GIB) == "group"


def test_sizes_and_durations_are_said_as_people_say_them():
    assert [format_bytes(n << 20) for n in (22, 1536)] == ["22 MB", "1.5 GB"]
    seconds = (0.2, 7.4, 90, 700, 5 * 3600, 10 * 86400)
    assert [format_duration(s) for s in seconds] == ["1 s", "7 s", "90 s", "12 min", "5 h", "10 days"]


def test_a_plan_says_what_it_is_for():
    plan = Plan(1, 832, 480, 81, 10 * GIB, 5 * GIB, 60.0, 1e12, instead="Try 33 frames.")
    with pytest.raises(
        ValueError, match="1 view of 81 frames at 832x480 .needs about 10.0 GB and 60 s; 5.0 GB are free"
    ):
        plan.require()


def test_running_out_of_memory_is_recognised_on_every_device():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_is_the_containers_where_that_has_less(version, tmp_path):
    """Limits of a group and of the one around it; files that can be dropped are free."""
    limit, usage, droppable = CGROUP_FILES[2 - version]
    mount = tmp_path / ("memory" if version == 1 else "")
    for group, most in (("outer", 900), ("outer/inner", 700)):
        (mount / group).mkdir(parents=True)
        (mount / group / limit).write_text(f"{most * 2**20}\n")
        (mount / group / usage).write_text(f"{500 * 2**20}\n")
        (mount / group / "memory.stat").write_text(f"anon 5\n{droppable} {100 * 2**20}\n")
    own = tmp_path / "own"
    own.write_text(f"1:cpu:/\n{'4:memory' if version == 1 else '0:'}:/outer/inner\n")
    assert sorted(cgroup_free_bytes(tmp_path, own)) == [300 * 2**20, 500 * 2**20]
    assert cgroup_free_bytes(tmp_path, tmp_path / "nothing") == []
    (mount / "outer" / CGROUP_FILES[0][0]).write_text("max\n")
    if version == 2:
        assert cgroup_free_bytes(tmp_path, own) == [300 * 2**20]


def test_free_memory_is_within_the_limit_of_the_process():
    code = """
import resource, psutil
from syncam.machine import free_host_bytes
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (300 << 20), resource.RLIM_INFINITY))
print(free_host_bytes() >> 20)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
    assert 250 < int(said) <= 300


def test_importing_the_package_changes_nothing_in_the_program_around_it():
    code = """
import diffusers, torch, transformers

def state():
    quiet = diffusers.utils.logging.get_verbosity(), diffusers.utils.logging.is_progress_bar_enabled()
    return torch.get_num_threads(), *quiet, transformers.utils.logging.is_progress_bar_enabled()

before = state()
import syncam.pipeline
assert state() == before
syncam.pipeline.Pipeline.load()
assert state() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_free_memory_of_the_cpu_is_what_the_system_says(pipeline):
    assert abs(pipeline.plan(shot()).free_bytes - psutil.virtual_memory().available) < 2 * GIB

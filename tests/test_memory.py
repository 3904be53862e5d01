"""What a run needs, predicted without allocating it; what does not fit is refused with what would."""

import psutil
import pytest
import torch
from accelerate import init_empty_weights
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from syncam.backbones.wan import MultiViewWanTransformer
from syncam.cameras import Rig
from syncam.memory import (
    GIB,
    Cost,
    MemoryPlan,
    attention_is_fused,
    best_device,
    choose_offload,
    cost_of,
    is_out_of_memory,
    say_bytes,
    say_seconds,
)
from syncam.pipeline import Pipeline
from syncam.shot import Shot
from tests.tiny import FAMILIES, WAN, randomised

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
    plan, one_branch = pipeline.plan(shot()), {"guidance_scale": 1.0, "view_guidance_scale": 1.0}
    assert plan.fits and plan.chunks == (None, None) and 1e6 < plan.needed_bytes < GIB
    assert pipeline.plan(shot(num_inference_steps=24)).seconds > 1.8 * plan.seconds
    assert pipeline.plan(shot(**one_branch)).flops < 0.6 * plan.flops
    pipeline.planner.learn(plan, seconds=100.0)
    assert pipeline.plan(shot()).seconds == pytest.approx(100.0)


@pytest.fixture
def cheap_decode(pipeline, monkeypatch):
    """So that the number of views decides what fits."""
    monkeypatch.setattr(pipeline.planner, "_decode_cost", lambda *size: Cost(0, 0))


def test_what_does_not_fit_is_refused_with_the_nearest_that_does(pipeline, cheap_decode, monkeypatch):
    def needed(num_views, **settings):
        return pipeline.plan(Shot("a ball", Rig(RIG.cameras[:num_views]), **settings)).needed_bytes

    free = int((needed(2) + 1) / 0.9)
    monkeypatch.setattr("syncam.memory.HEADROOM", 0.9)
    monkeypatch.setattr("syncam.memory.free_bytes", lambda device: free)
    monkeypatch.setattr("syncam.memory.WAYS", ((True, (None, None)),))
    heard = []
    with pytest.raises(
        ValueError, match=r"Not enough memory for 4 views of 17 frames at 128x128 \(needs about .* free"
    ):
        pipeline.generate(shot(), on_step=heard.append)
    assert heard == []
    assert pipeline.plan(shot()).instead == "Try 2 views or 5 frames."
    assert pipeline.plan(Shot("a ball", Rig(RIG.cameras[:2]))).fits
    assert pipeline.plan(shot(num_frames=5)).fits and not pipeline.plan(shot(num_frames=9)).fits


def test_what_does_not_fit_in_one_piece_runs_branch_by_branch_and_then_in_chunks(pipeline, cheap_decode, monkeypatch):
    monkeypatch.setattr("syncam.memory.HEADROOM", 1.0)
    free, plans = GIB, []
    monkeypatch.setattr("syncam.memory.free_bytes", lambda device: free)
    for _ in range(3):
        plans.append(pipeline.plan(shot()))
        free = plans[-1].needed_bytes - 1
    assert all(plan.fits for plan in plans)
    assert [(plan.branches_in_batch, plan.chunks) for plan in plans] == [
        (True, (None, None)),
        (False, (None, None)),
        (False, (1, 1)),
    ]
    assert plans[0].flops == pytest.approx(plans[1].flops, rel=0.01)


def test_what_would_take_days_is_refused(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.planner, "_rate", 1e3)
    with pytest.raises(ValueError, match="Not enough time for 4 views .*days"):
        pipeline.generate(shot())


def test_a_large_run_is_refused_where_attention_is_not_fused(pipeline, monkeypatch):
    assert attention_is_fused(torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH):
        assert not attention_is_fused(torch.device("cpu"))
        assert pipeline.plan(shot()).fits, "a small one may run"
        monkeypatch.setattr("syncam.memory.LARGE_ATTENTION_TOKENS", 10)
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
    assert [say_bytes(n << 20) for n in (22, 1536)] == ["22 MB", "1.5 GB"]
    assert [say_seconds(s) for s in (7.4, 90, 700, 5 * 3600, 10 * 86400)] == ["7 s", "90 s", "12 min", "5 h", "10 days"]


def test_a_plan_says_what_it_is_for():
    plan = MemoryPlan(1, 832, 480, 81, 10 * GIB, 5 * GIB, 60.0, 1e12, instead="Try 33 frames.")
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


def test_free_memory_of_the_cpu_is_what_the_system_says(pipeline):
    assert abs(pipeline.plan(shot()).free_bytes - psutil.virtual_memory().available) < 2 * GIB

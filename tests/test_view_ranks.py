"""One shot by two processes (gloo, on the CPU) that share its views: the same as by one."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing

from syncam.__main__ import main
from syncam.result import MultiViewVideo
from syncam.view_ranks import ViewRanks
from tests.tiny import FAMILIES, randomised, save_model

ROOT = Path(__file__).resolve().parents[1]


def together(work, *arguments) -> None:
    """``work(rank, *arguments)`` in two processes that can find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE="2")
    try:
        torch.multiprocessing.spawn(work, arguments, nprocs=2)
    finally:
        for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
            del os.environ[name]


def join(rank: int) -> ViewRanks:
    os.environ["RANK"] = str(rank)
    torch.set_num_threads(1)
    return ViewRanks.join()


def test_views_are_divided_as_evenly_as_can_be():
    for size in (1, 2, 3, 8):
        processes = [ViewRanks(rank, size) for rank in range(size)]
        for number in (size, size + 1, 9):
            assert [each for one in processes for each in range(number)[one.places(number)]] == list(range(number))
            assert max(processes[0].shares(number)) - min(processes[0].shares(number)) <= 1
    with pytest.raises(ValueError, match="8 processes can't share 3 views"):
        ViewRanks(0, 8).require_views(3)


@torch.no_grad()
def _compare_forwards(rank: int) -> None:
    ranks = join(rank)
    for name, family in FAMILIES.items():
        torch.manual_seed(0)
        model = randomised(family.multi_view_class(**family.config))
        for num_views, num_frames, chunks in ((2, 1, None), (3, 5, None), (5, 4, 1)):
            latents = torch.cat([family.latents(num_views, num_frames, seed=seed) for seed in (1, 2)])  # guidance's
            cameras = family.cameras(num_views, num_frames)
            model.set_chunking(1 if chunks else None, chunks)
            expected = [_forward(family, model, latents, cameras, apart) for apart in (False, True)]
            assert (expected[0] - expected[1]).abs().max() > 1e-3, "views do see each other"
            model.split_views(ranks)
            model.set_chunking(1 if chunks else None, chunks)
            shared = [_forward(family, model, latents, cameras, apart) for apart in (False, True)]
            model.split_views(None)
            for one, other in zip(expected, shared, strict=True):
                error = float((one - other).abs().max() / one.abs().max())
                assert error < 1e-6, f"{name}, {num_views} views: {error}"
    ranks.leave()


def _forward(family, model, latents, cameras, apart: bool) -> torch.Tensor:
    def guidance(transformer, predict, *inputs):
        return predict(*inputs, apart=apart)

    return family.forward(model, latents, cameras=cameras, guidance=guidance)


@pytest.mark.slow
def test_a_forward_shared_by_two_processes_is_that_of_one():
    together(_compare_forwards)


def _generate(rank: int, model: str, out: str) -> None:
    os.environ["RANK"] = str(rank)
    main(["generate", "a red ball on the sand", "--rig", "arc4", "--model", model, "--out", out])


@pytest.mark.slow
def test_torchrun_makes_one_shot_with_two_processes_as_one_makes_it_alone(tmp_path):
    save_model(tmp_path / "model", tmp_path)
    together(_generate, str(tmp_path / "model"), str(tmp_path / "together"))
    shared = MultiViewVideo.load(tmp_path / "together")
    seed = str(shared.recipe["seed"])  # chance's: the first process told the other
    options = ["--rig", "arc4", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "alone"), "--seed", seed]
    assert main(["generate", "a red ball on the sand", *options]) in (0, None)
    alone = MultiViewVideo.load(tmp_path / "alone")
    assert len(alone.frames) == 4 and alone.frames.std() > 1
    # compared as they were saved: what the sums differ in, 1e-7, may turn a rounding
    assert np.abs(shared.frames.astype(int) - alone.frames).mean() < 0.01

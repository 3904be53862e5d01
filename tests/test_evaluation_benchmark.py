"""The benchmark at tiny widths: its figures must hang together."""

import pytest
import torch

from syncam.evaluation.benchmark import _costs, measure
from tests.tiny import WAN


def test_the_ratios_follow_from_the_times_and_rates():
    speed = measure(num_views=3, num_frames=2, height=16, width=16, rounds=2, **WAN)
    assert 0 < speed.seconds < 10 and 0 < speed.stock_seconds < 10
    assert speed.gemm_rate > 0 and speed.attention_rate > 0
    assert 0 < speed.r_gemm < 1.5 and 0 < speed.r_fair < 10
    assert speed.flops_ratio > 1.1


def test_counted_operations_are_those_of_the_shapes_that_ran():
    """R_gemm uses operations noted while running, the ratio those counted on the meta device: they must be the same."""
    speed = measure(num_views=2, num_frames=2, height=8, width=8, rounds=1, dtype=torch.float32, **WAN)
    with_module, _ = _costs(WAN, 2, 2, 8, 8)
    noted = speed.r_gemm * speed.seconds * speed.gemm_rate
    assert noted == pytest.approx(with_module.flops, rel=0.05)  # but for the patch embedding, a convolution

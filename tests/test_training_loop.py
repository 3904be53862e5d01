"""What all kinds of training share: their options, how fast they learn, and in which kind of number."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from syncam.precision import fastest_dtype, linear_layer, squared
from syncam.training.embedded import EmbeddedConfig
from syncam.training.loop import Muon, orthogonal, schedule
from syncam.training.module import ModuleConfig


def test_the_learning_rate_warms_up_holds_and_falls_to_nothing():
    rates = [schedule(step, 1000, 0.3) for step in range(1000)]
    assert rates[0] < rates[49] == rates[500] == 1.0 > rates[900] > rates[999] > 0


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stepz=3", "unknown option"),
        ("seed=x", "must be int"),
        ("relative_poses=1", "true or false"),
        ("dtype=half", "dtype must be bfloat16, float32 or empty"),
    ],
)
@pytest.mark.parametrize("kind", [EmbeddedConfig, ModuleConfig])
def test_a_mistake_in_an_option_is_named(kind, word, said):
    with pytest.raises(ValueError, match=said):
        kind.from_words([word])


@pytest.mark.parametrize("kind", [EmbeddedConfig, ModuleConfig])
def test_options_are_read_as_the_kind_of_value_that_they_are(kind):
    config = kind.from_words(["seed=3", "relative_poses=false", "muon_lr=1e-2", "data=toys", "out=here"], num_scenes=7)
    assert config == kind(seed=3, relative_poses=False, muon_lr=0.01, data=Path("toys"), out=Path("here"), num_scenes=7)


@pytest.mark.parametrize("work", [linear_layer, squared])
def test_the_number_type_that_is_taken_is_the_faster_one(work):
    def seconds(dtype: torch.dtype) -> float:
        matrix, least = torch.randn(768, 256).to(dtype), 1e9
        for _ in range(5):
            began = time.perf_counter()
            work(matrix)
            least = min(least, time.perf_counter() - began)
        return least

    gain = seconds(torch.float32) / seconds(torch.bfloat16)
    assert 1 / 3 < gain < 3 or fastest_dtype(torch.device("cpu"), work) == (
        torch.bfloat16 if gain > 1 else torch.float32
    )


def test_an_empty_dtype_is_measured_and_a_given_one_is_used():
    cpu = torch.device("cpu")
    assert EmbeddedConfig().working_dtype(cpu) == fastest_dtype(cpu)
    for name in ("bfloat16", "float32"):
        assert EmbeddedConfig(dtype=name).working_dtype(cpu) == getattr(torch, name)


@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (32, 32)])
def test_muon_takes_the_step_of_pytorchs_in_bfloat16_and_nearly_that_in_float32(shape):
    options = {"lr": 0.02, "weight_decay": 0.1, "ns_steps": 4}
    start, gradients = torch.randn(shape), torch.randn(3, *shape)
    results = []
    for kind in (torch.optim.Muon, Muon):
        for dtype in (torch.bfloat16, torch.float32)[: 1 + (kind is Muon)]:
            parameter = nn.Parameter(start.clone())
            optimizer = kind([parameter], **options, **({"dtype": dtype} if kind is Muon else {}))
            for gradient in gradients:
                parameter.grad = gradient.clone()
                optimizer.step()
            results.append(parameter.detach())
    theirs, same, finer = results
    assert torch.equal(same, theirs)
    assert 0 < (finer - theirs).abs().max() < 0.02 * (theirs - start).abs().max()
    assert list(optimizer.state_dict()["state"][0]) == ["momentum_buffer"], "what a checkpoint of PyTorch's holds too"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonal_leaves_directions_and_evens_out_lengths(dtype):
    matrix = torch.randn(24, 40)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix.to(dtype), (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    lengths = left.T @ found @ right.T
    assert ((lengths.diag() > 0.5) & (lengths.diag() < 1.3)).all()
    assert (lengths - torch.diag(lengths.diag())).abs().max() < (1e-5 if dtype == torch.float32 else 0.05)

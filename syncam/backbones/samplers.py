"""Ways from noise to latents of flow-matching models that diffusers does not have as they were published.

Latents at noise level sigma are ``(1 - sigma) clean + sigma noise``, and the network predicts ``noise - clean``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin  # noqa: F401  a saved pipeline finds its kind here

TRIGFLOW_ANGLES = (1.5, 1.4, 1.0)  # of rCM's steps after the first
TRIGFLOW_SIGMA_MAX = 80.0  # its first angle is the arc tangent of this


class FlowMatchScheduler(FlowMatchEulerDiscreteScheduler):
    """Euler steps on the released code's noise levels: n + 1 even ones from 1 to 0, then shifted.

    The stock class spaces n levels down to the last training timestep instead, which is off by up to 0.07 at 50 steps.
    For a flow map, which predicts the mean velocity between two levels, the same steps are exact.
    """

    def set_timesteps(self, num_inference_steps: int | None = None, device=None, sigmas=None, **kwargs) -> None:
        if sigmas is None and not kwargs:
            sigmas = np.linspace(1.0, 0.0, num_inference_steps + 1)[:-1]
        super().set_timesteps(num_inference_steps, device=device, sigmas=sigmas, **kwargs)


class ConsistencyScheduler(FlowMatchScheduler):
    """Steps of a model that was distilled to find the clean latents at once: to them, and back with fresh noise.

    The noise of each view is drawn from a generator of its own, so that adding a camera keeps the others'. The kinds of
    noise levels: "shifted", as of :class:`FlowMatchScheduler` (LCM, self-forcing, DMD); "trigflow", rCM's.
    """

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0, levels: str = "shifted"):
        super().__init__(num_train_timesteps, shift)
        self._generators: list[torch.Generator] = []

    def seed(self, seed: int, num_views: int) -> None:
        """Where the noise of the next generation comes from."""
        self._generators = [torch.Generator().manual_seed(seed + 1 + view) for view in range(num_views)]

    def set_timesteps(self, num_inference_steps: int | None = None, device=None, **kwargs) -> None:
        super().set_timesteps(num_inference_steps, device=device, **kwargs)
        if self.config.levels == "trigflow":
            levels = torch.tensor(trigflow_levels(num_inference_steps), dtype=torch.float32)
            self.sigmas = torch.cat([levels, torch.zeros(1)])
            self.timesteps = (levels * self.config.num_train_timesteps).to(device)

    def step(self, model_output: torch.Tensor, timestep, sample: torch.Tensor, return_dict: bool = True, **kwargs):
        """model_output and sample (v, c, f, h, w) -> the sample at the next noise level."""
        if self.step_index is None:
            self._init_step_index(timestep)
        level, next_level = (float(self.sigmas[self.step_index + i]) for i in (0, 1))
        clean = sample.float() - level * model_output.float()
        noise = torch.stack([torch.randn(sample.shape[1:], generator=generator) for generator in self._generators])
        result = ((1 - next_level) * clean + next_level * noise.to(clean.device)).to(model_output.dtype)
        self._step_index += 1
        return FlowMatchEulerDiscreteSchedulerOutput(prev_sample=result) if return_dict else (result,)


def trigflow_levels(num_steps: int) -> Sequence[float]:
    """rCM's noise levels as those of flow matching: angles t, of which the noise level is sin t / (sin t + cos t).

    Raises: ValueError for more steps than it was distilled for.
    """
    if num_steps > 1 + len(TRIGFLOW_ANGLES):
        raise ValueError(f"the solver trigflow takes 1 to {1 + len(TRIGFLOW_ANGLES)} steps, got {num_steps}")
    angles = (math.atan(TRIGFLOW_SIGMA_MAX), *TRIGFLOW_ANGLES[: num_steps - 1])
    return [math.sin(angle) / (math.sin(angle) + math.cos(angle)) for angle in angles]

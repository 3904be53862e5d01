"""One shot by several processes, such as torchrun starts, each with its GPU: every process does some of the views.

A transformer treats views one by one, but for the attention in which they meet, and that treats latent frames one by
one. So before it, tokens go from the processes that have their view to those that have their frame, and afterwards
back: the all-to-all of DeepSpeed-Ulysses (arXiv:2309.14509), with frames in the place of heads. The sums are those of
one process. Text, noise, sampler and guidance are the same in all processes, which all do them; decoding is shared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = timedelta(hours=1)  # a process may wait for another that reads its weights from a slow disk


@dataclass
class ViewRanks:
    """This process among those that share the views. Tensors are (b v ...), the views of a sample one after the other.

    ``num_views``: of all processes together, in the forward that runs; 0 while no view is to see another.
    """

    rank: int
    size: int
    num_views: int = 0

    @classmethod
    def join(cls) -> ViewRanks:
        """Joins the processes that torchrun started together with this one, and takes this process's accelerator."""
        if torch.accelerator.is_available():
            torch.accelerator.set_device_index(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group(timeout=TIMEOUT)
        return cls(dist.get_rank(), dist.get_world_size())

    def leave(self) -> None:
        dist.destroy_process_group()

    def shares(self, number: int) -> list[int]:
        """How many of a number of things each process has: the first ones one more where they can't have the same."""
        return [number // self.size + (rank < number % self.size) for rank in range(self.size)]

    def places(self, number: int) -> slice:
        """Which of them are this process's."""
        shares = self.shares(number)
        return slice(sum(shares[: self.rank]), sum(shares[: self.rank + 1]))

    def require_views(self, number: int) -> None:
        """Raises: ValueError if a process would have none."""
        if number < self.size:
            raise ValueError(f"{self.size} processes can't share {number} views: start at most as many as there are")

    @contextmanager
    def meeting(self, num_views: int) -> Iterator[None]:
        """A forward in which so many views see each other; 0: none sees another."""
        self.num_views = num_views
        try:
            yield
        finally:
            self.num_views = 0

    # ------------------------------------------------------------------------------------------------------- tensors

    def own(self, tensor: torch.Tensor, num_views: int) -> torch.Tensor:
        """This process's views of all."""
        return tensor.unflatten(0, (-1, num_views))[:, self.places(num_views)].flatten(0, 1)

    def gather(self, tensor: torch.Tensor, num_views: int) -> torch.Tensor:
        """The inverse of :meth:`own`: all views, from every process's own."""
        own = tensor.unflatten(0, (-1, self.shares(num_views)[self.rank]))
        shapes = [(len(own), views, *own.shape[2:]) for views in self.shares(num_views)]
        return torch.cat(self._exchange([own] * self.size, shapes), 1).flatten(0, 1)

    def to_frames(self, tokens: torch.Tensor) -> torch.Tensor:
        """Own views of all latent frames, (b v f s d), become all views of own latent frames."""
        own = tokens.unflatten(0, (-1, self.shares(self.num_views)[self.rank]))
        frames = self.shares(own.shape[2])
        shapes = [(len(own), views, frames[self.rank], *own.shape[3:]) for views in self.shares(self.num_views)]
        return torch.cat(self._exchange(own.split(frames, 2), shapes), 1).flatten(0, 1)

    def to_views(self, tokens: torch.Tensor, num_frames: int) -> torch.Tensor:
        """The inverse of :meth:`to_frames`."""
        every = tokens.unflatten(0, (-1, self.num_views))
        views = self.shares(self.num_views)
        shapes = [(len(every), views[self.rank], frames, *every.shape[3:]) for frames in self.shares(num_frames)]
        return torch.cat(self._exchange(every.split(views, 1), shapes), 2).flatten(0, 1)

    def _exchange(self, parts: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Sends every process its part, and returns what each sends to this one, of these shapes."""
        sizes = [torch.Size(shape).numel() for shape in shapes]
        received = parts[0].new_empty(sum(sizes))
        sent = torch.cat([part.flatten() for part in parts])
        dist.all_to_all_single(received, sent, sizes, [part.numel() for part in parts])
        return [part.view(shape) for part, shape in zip(received.split(sizes), shapes, strict=True)]

    # ------------------------------------------------------------------------------------------------------- objects

    def of_first(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def of_all(self, value: Any) -> list[Any]:
        """Every process's value, in all of them."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

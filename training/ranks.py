"""The processes of one run, as torchrun starts them: which one this is, its share, and what they add up.

Knows nothing of models, files or recipes. Letter: N processes. Alone, nothing here communicates.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

Items = TypeVar("Items", bound=Sequence[Any])
Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among N, counted from 0. What adds up or gathers must be called by all of them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # on this machine: the number of its GPU

    def share(self, items: Items) -> Items:
        """Every N-th one, from this rank's own: like lengths stay in step."""
        return items[self.rank :: self.count]  # type: ignore[return-value]

    def sum(self, *numbers: float) -> list[float]:
        """Each number added up over the ranks."""
        if self.count == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return self.sum(flag)[0] > 0

    def gather(self, value: Item) -> list[Item]:
        """Every rank's, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def gather_items(self, items: list[Item]) -> list[Item]:
        """Every rank's items in one list."""
        return [item for part in self.gather(items) for item in part]

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients added up over the ranks, in place; a rank that saw no example adds zeros."""
        if self.count == 1:
            return
        parameters = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        sizes = [part.numel() for part in parts]
        total = torch.cat([part.flatten() for part in parts])
        distributed.all_reduce(total)
        for parameter, part in zip(parameters, torch.split(total, sizes), strict=True):
            parameter.grad = part.view_as(parameter)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started together with this process; this one alone where it did not.

    `device` auto, cpu or cuda: gradients on a GPU are added up by NCCL, everything else by gloo.
    """
    if not distributed.is_torchelastic_launched():
        yield Ranks()
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), distributed.get_node_local_rank())
    finally:
        distributed.destroy_process_group()

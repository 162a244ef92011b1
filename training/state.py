"""What decides a run's next weights, as tensors for a checkpoint and back.

Knows nothing of files, or of how far the run is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from training.checkpoint import Checkpoint
from training.ranks import Ranks


@dataclass(frozen=True)
class State:
    """The parts that change with every step. All ranks hold the same, but for their random generators."""

    network: nn.Module
    optimizer: Optimizer
    average: AveragedModel | None
    device: torch.device
    ranks: Ranks

    def tensors(self) -> dict[str, Tensor]:
        """By dotted name, `model.`, `average.`, `optimizer.` and `generator.`. To be called by all ranks."""
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= _optimizer_tensors(self.optimizer)
        for rank, states in enumerate(self.ranks.gather(_generator_states(self.device))):
            tensors |= {f"{_generator(rank)}.{kind}": state for kind, state in states.items()}
        return tensors

    def restore(self, found: Checkpoint) -> None:
        """Takes up what `tensors` gave. Raises KeyError or RuntimeError when a part is missing."""
        self.network.load_state_dict(found.group("model"))
        if self.average is not None:
            self.average.load_state_dict(found.group("average"))
        _restore_optimizer(self.optimizer, found.group("optimizer"))
        _restore_generators(found.group(_generator(self.ranks.rank)), self.device)


def _generator(rank: int) -> str:
    """The name of a rank's generators."""
    return f"generator-{rank}" if rank else "generator"


def _generator_states(device: torch.device) -> dict[str, Tensor]:
    """The state of every random generator that a model on this device draws from, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Puts the generators back to where `_generator_states` saw them. Raises KeyError when one is missing."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, by the parameter's number."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{n}.{name}": tensor for n, values in state.items() for name, tensor in values.items()}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Gives the optimiser its memory back. Raises KeyError when that of a parameter is missing."""
    groups = optimizer.state_dict()["param_groups"]
    memory: dict[int, dict[str, Tensor]] = {}
    for number in (number for group in groups for number in group["params"]):
        memory[number] = {name: tensors[f"{number}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
    optimizer.load_state_dict({"state": memory, "param_groups": groups})

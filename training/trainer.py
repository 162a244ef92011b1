"""The training loop: epochs of teacher-forced steps, a checkpoint now and then, the best model kept by dev error.

A run is a pure function of its recipe, its data, the machine and the thread count: killed at any moment and
started again, it ends with the same weights, bit for bit. Devices and precision are Lightning Fabric's.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.checkpoint import (
    Checkpoint,
    generator_tensors,
    load_checkpoint,
    restore_generators,
    save_checkpoint,
)
from training.clipping import ClipTally, clip_gradients
from training.data import Examples, Split, batch_order, to_examples
from training.evaluate import evaluate
from training.model import Seq2Seq
from training.recipe import Recipe
from training.report import RunFolder
from training.vocabulary import build_texts

IGNORED = -100  # the label of a padded position


class TrainingError(RuntimeError):
    """The run cannot go on: its loss left the numbers, or its folder belongs to another recipe or data."""


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Rate of a step counted from 0: linear warm-up, then constant or half a cosine down to 0."""
    options = recipe.training
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.schedule == "constant":
        return options.learning_rate
    share = (step - options.warmup_steps) / max(1, total_steps - options.warmup_steps)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class Trainer:
    """One run in one folder. State that a checkpoint must hold lives in `progress` and in the modules."""

    def __init__(
        self, recipe: Recipe, splits: dict[str, Split], folder: RunFolder, accelerator: str = "auto"
    ):
        self.recipe = recipe
        self.folder = folder
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=recipe.training.precision)
        torch.manual_seed(recipe.training.seed)
        self.source_text, self.target_text = build_texts(recipe, splits["train"])
        self.dev = splits["dev"].by_source()
        self.data = {name: split.sha256 for name, split in splits.items()}
        fresh = self._checkpoint_of({}, {})
        self.texts = fresh.texts()
        self.train_set = to_examples(splits["train"], *self.texts, recipe.limits)
        self.network = Seq2Seq(len(self.texts[0].tokens), len(self.texts[1].tokens), recipe.model)
        optimizer = torch.optim.Adam(self.network.parameters(), recipe.training.learning_rate, fused=True)
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        decay = recipe.training.average_decay
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
        )
        self.steps_per_epoch = len(self._batches(0))
        self.progress: dict[str, Any] = {
            "step": 0,
            "best_wer": None,
            "best_epoch": 0,
            "seconds": 0.0,
            "epoch_tally": _new_tally(),
            "history": [],
            "finished": False,
        }
        self.stop_asked = False

    @property
    def total_steps(self) -> int:
        """Steps of a run that is not stopped early."""
        return self.recipe.training.epochs * self.steps_per_epoch

    def run(self) -> None:
        """Trains from the folder's checkpoint, or from the start, to the end or until it is asked to stop."""
        self._resume()
        with self._stopped_by_signals(), self.folder.progress(self.total_steps) as bar:
            while not self.progress["finished"] and not self.stop_asked:
                epoch = self.progress["step"] // self.steps_per_epoch
                for indices in self._batches(epoch)[self.progress["step"] % self.steps_per_epoch :]:
                    self._step(indices)
                    bar.update(self.progress["step"], self.progress["epoch_tally"])
                    ended = self.progress["step"] % self.steps_per_epoch == 0
                    if ended:
                        self._end_epoch(epoch + 1)
                    if ended or self.stop_asked or self._checkpoint_is_due():
                        self._save()
                    if self.stop_asked:
                        break
        self.folder.write_curves(self.progress["history"])

    def _step(self, indices: Any) -> None:
        """One update: teacher-forced cross-entropy, both clips, Adam, moving average."""
        began = time.perf_counter()
        options, step, tally = self.recipe.training, self.progress["step"], self.progress["epoch_tally"]
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.recipe, step, self.total_steps)
        self.model.train()
        source, lengths, read, labels = self._tensors(self.train_set, indices)
        logits = self.model(source, lengths, read)  # [B, T, V]
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=options.label_smoothing,
        )
        if not bool(loss.isfinite()):
            raise TrainingError(
                f"step {step}: the loss is {loss.item()}; lower the learning rate or clip more"
            )
        self.fabric.backward(loss)
        clipped = clip_gradients(self.network, options.clip_value, options.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.progress["step"] += 1
        tokens = int((labels != IGNORED).sum())
        tally["loss"] += loss.item() * tokens
        tally["tokens"] += tokens
        tally["source_tokens"] += int(lengths.sum())
        ClipTally.add(tally, clipped)
        tally["seconds"] += time.perf_counter() - began

    def _tensors(self, examples: Examples, indices: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """source [B, S], lengths [B] (CPU), what the decoder reads [B, T] (<S> first), labels [B, T] (<E> last)."""
        lengths = torch.from_numpy(examples.source_lengths[indices])
        target_lengths = torch.from_numpy(examples.target_lengths[indices])
        source = torch.from_numpy(examples.source[indices])[:, : int(lengths.max())]
        target = torch.from_numpy(examples.target[indices])[:, : int(target_lengths.max())]
        read = nn.functional.pad(target, (1, 0), value=self.network.start_id)
        labels = nn.functional.pad(target, (0, 1), value=0)  # 0 is <E>, and the padding of `target`
        beyond = torch.arange(labels.shape[1]) > target_lengths.unsqueeze(1)
        labels = labels.masked_fill(beyond, IGNORED)
        source, read, labels = (self.fabric.to_device(tensor) for tensor in (source, read, labels))
        return source, lengths, read, labels

    def _batches(self, epoch: int) -> list[Any]:
        options = self.recipe.training
        return batch_order(self.train_set, options.batch_size, options.bucket_width, options.seed, epoch)

    def _checkpoint_is_due(self) -> bool:
        return self.progress["step"] % self.recipe.training.checkpoint_every_steps == 0

    def _end_epoch(self, epoch: int) -> None:
        """Scores dev, writes the epoch's row, keeps the best weights, decides whether to go on."""
        predictor = self.average.module if self.average is not None else self.network
        scores = evaluate(
            predictor, self.dev, self.texts, self.recipe.limits.max_target_length, self.fabric.device
        )
        progress, tally = self.progress, self.progress["epoch_tally"]
        progress["seconds"] += tally["seconds"]
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": epoch, "step": progress["step"], "learning_rate": rate, **_summary(tally)}
        row |= {"dev_wer": scores.wer, "dev_per": scores.per}
        progress["history"].append(row)
        progress["epoch_tally"] = _new_tally()
        if progress["best_wer"] is None or scores.wer < progress["best_wer"]:
            progress["best_wer"], progress["best_epoch"] = scores.wer, epoch
            weights = {f"model.{name}": tensor for name, tensor in predictor.state_dict().items()}
            save_checkpoint(self.folder.best, self._checkpoint_of(weights, {"epoch": epoch, "dev": row}))
        patience = self.recipe.training.patience_epochs
        out_of_patience = epoch - progress["best_epoch"] >= patience
        progress["finished"] = epoch >= self.recipe.training.epochs or out_of_patience
        self.folder.write_epoch(progress["history"])

    def _checkpoint_of(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> Checkpoint:
        state = {
            "data": self.data,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            **state,
        }
        return Checkpoint(self.recipe, self.source_text, self.target_text, tensors, state)

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
        tensors |= generator_tensors()
        save_checkpoint(self.folder.checkpoint, self._checkpoint_of(tensors, {"progress": self.progress}))

    def _resume(self) -> None:
        """Takes up the folder's checkpoint, if it has one: weights, moments, average, generators, position."""
        if not self.folder.checkpoint.exists():
            self.folder.start(self.progress["history"])
            return
        found = load_checkpoint(self.folder.checkpoint)
        if found.recipe != self.recipe or found.state["data"] != self.data:
            raise TrainingError(
                f"{self.folder.path}: holds a run of another recipe or other data; use another folder"
            )
        self.network.load_state_dict(found.group("model"))
        if self.average is not None:
            self.average.load_state_dict(found.group("average"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in found.group("optimizer").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = tensor
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        restore_generators(found.group("generator"))
        self.progress = found.state["progress"]
        if found.state["threads"] != torch.get_num_threads():
            self.folder.warn(
                f"the checkpoint was written with {found.state['threads']} threads, this run has "
                f"{torch.get_num_threads()}: it will not be bit-identical to an uninterrupted one"
            )
        self.folder.start(self.progress["history"])

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after the step in hand, with a checkpoint."""

        def ask(*_: object) -> None:
            self.stop_asked = True

        previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _new_tally() -> dict[str, float]:
    return {"loss": 0.0, "tokens": 0, "source_tokens": 0, "seconds": 0.0, **ClipTally.new()}


def _summary(tally: dict[str, float]) -> dict[str, float]:
    """An epoch's means: loss in nats a token, target and source tokens a second, clip shares."""
    return {
        "train_loss": tally["loss"] / tally["tokens"],
        "tokens_per_second": (tally["tokens"] + tally["source_tokens"]) / max(tally["seconds"], 1e-9),
        **ClipTally.summary(tally),
    }


def describe_run(folder: Path) -> dict[str, Any]:
    """The recipe of a run folder, as plain data."""
    return dict(msgspec.to_builtins(load_checkpoint(folder / "best.safetensors").recipe))

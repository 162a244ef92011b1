"""The training loop: epochs of teacher-forced steps, checkpoints, the best model kept by dev error.

A run is a pure function of its recipe, its data, the machine and the thread count: killed at any moment and
started again, it ends with the same weights, bit for bit. Devices and precision are Lightning Fabric's.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bundle.text import SourceText, TargetText
from training.batches import pick, updates
from training.checkpoint import (
    Checkpoint,
    CheckpointError,
    generator_tensors,
    load_checkpoint,
    optimizer_tensors,
    restore_generators,
    restore_optimizer,
    save_checkpoint,
)
from training.clipping import ClipTally, clip_gradients
from training.data import Split, audit, to_examples
from training.evaluate import evaluate
from training.model import Seq2Seq
from training.objective import add_gradients
from training.recipe import Recipe
from training.report import RunFolder
from training.revision import code_revision
from training.schedule import learning_rate, make_optimizer
from training.vocabulary import build_texts


class TrainingError(RuntimeError):
    """The run cannot go on: a number is not finite, or its folder belongs to another recipe or other data."""


class Trainer:
    """One run in one folder. State that a checkpoint must hold lives in `progress` and in the modules."""

    def __init__(
        self, recipe: Recipe, splits: dict[str, Split], folder: RunFolder, accelerator: str = "auto"
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.audit = audit(splits)
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=recipe.training.precision)
        torch.manual_seed(recipe.training.seed)
        self.source_text, self.target_text = build_texts(recipe, splits["train"])
        self.dev = splits["dev"].by_source()
        self.commit = code_revision()
        self.data = {name: split.sha256 for name, split in splits.items()}
        self.texts = SourceText(self.source_text), TargetText(self.target_text)
        self.train_set = to_examples(splits["train"], *self.texts, recipe.limits)
        self.network = Seq2Seq(len(self.texts[0].tokens), len(self.texts[1].tokens), recipe.model)
        self.model, self.optimizer = self.fabric.setup(
            self.network, make_optimizer(self.network, recipe.training)
        )
        decay = recipe.training.average_decay
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None  # type: ignore[no-untyped-call]
        )
        self.steps_per_epoch = len(self._updates(0))
        self.progress: dict[str, Any] = {
            "step": 0,
            "best_wer": None,
            "best_epoch": 0,
            "seconds": 0.0,
            "epoch_tally": _new_tally(),
            "history": [],
            "layers": [],
            "finished": False,
        }
        self.stop_asked = False

    @property
    def total_steps(self) -> int:
        """Steps of a run that is not stopped early."""
        return self.recipe.training.epochs * self.steps_per_epoch

    def run(self) -> None:
        """Trains from the folder's checkpoint, or from the start, to the end or until it is asked to stop.

        A run that has ended is left as it is. Raises TrainingError, CheckpointError.
        """
        if self.folder.checkpoint.exists():
            self._resume()
        if self.progress["finished"]:
            self.folder.say(f"{self.folder.path}: this run has ended; nothing to do")
            return
        self.folder.start(self.recipe, self.audit, self.progress)
        if self.train_set.too_long:
            self.folder.say(f"train: {self.train_set.too_long} examples left out, over the recipe's limits")
        with self._stopped_by_signals(), self.folder.progress(self.total_steps) as bar:
            while self._goes_on():
                epoch = self.progress["step"] // self.steps_per_epoch
                for batches in self._updates(epoch)[self.progress["step"] % self.steps_per_epoch :]:
                    self._step(batches)
                    bar.update(self.progress["step"], self.progress["epoch_tally"])
                    ended = self.progress["step"] % self.steps_per_epoch == 0
                    if ended:
                        self._end_epoch(epoch + 1)
                    if ended or self.stop_asked or self._checkpoint_is_due():
                        self._save()
                    if self.stop_asked:
                        break

    def _goes_on(self) -> bool:
        return not (self.progress["finished"] or self.stop_asked)

    def _step(self, batches: list[Any]) -> None:
        """One update: gradients of the mean loss, both clips, optimiser, moving average."""
        began = time.perf_counter()
        options, step, tally = self.recipe.training, self.progress["step"], self.progress["epoch_tally"]
        errors = [row["dev_wer"] for row in self.progress["history"]]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(options, step, self.total_steps, errors)
        self.model.train()
        picked = [pick(self.train_set, indices, self.network.start_id) for indices in batches]
        sampled = options.scheduled_sampling * step / max(1, self.total_steps - 1)
        loss = add_gradients(self.fabric, self.model, picked, options, sampled)
        if not math.isfinite(loss):
            raise TrainingError(f"step {step}: the loss is {loss}; lower the learning rate or clip more")
        try:
            clipped = clip_gradients(self.network, options.clip_value, options.clip_norm)
        except FloatingPointError as error:
            raise TrainingError(f"step {step}: {error}") from error
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.progress["step"] += 1
        for batch in picked:
            tally["loss"] += loss * batch.tokens
            tally["tokens"] += batch.tokens
            tally["source_tokens"] += int(batch.lengths.sum())
        ClipTally.add(tally, clipped)
        tally["seconds"] += time.perf_counter() - began

    def _updates(self, epoch: int) -> list[list[Any]]:
        return updates(self.train_set, self.recipe.training, epoch)

    def _checkpoint_is_due(self) -> bool:
        return int(self.progress["step"]) % self.recipe.training.checkpoint_every_steps == 0

    def _end_epoch(self, epoch: int) -> None:
        """Scores dev, writes the epoch's row, keeps the best weights, decides whether to go on."""
        predictor = self.average.module if self.average is not None else self.network
        assert isinstance(predictor, Seq2Seq)
        if not all(bool(weight.isfinite().all()) for weight in predictor.parameters()):
            raise TrainingError(f"epoch {epoch}: a weight is not finite; lower the learning rate")
        scores = evaluate(
            predictor, self.dev, self.texts, self.recipe.limits.max_target_length, self.fabric.device
        )
        progress, tally = self.progress, self.progress["epoch_tally"]
        progress["seconds"] += tally["seconds"]
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": epoch, "step": progress["step"], "learning_rate": rate, **_summary(tally)}
        row |= {"dev_wer": scores.wer, "dev_per": scores.per}
        progress["history"].append(row)
        progress["layers"] += [{"epoch": epoch, **layer} for layer in ClipTally.layers(tally)]
        progress["epoch_tally"] = _new_tally()
        last = [row["dev_wer"] for row in progress["history"][-self.recipe.training.mean_of_epochs :]]
        mean = sum(last) / len(last)
        if progress["best_wer"] is None or mean < progress["best_wer"]:
            progress["best_wer"], progress["best_epoch"] = mean, epoch
            weights = {f"model.{name}": tensor for name, tensor in predictor.state_dict().items()}
            save_checkpoint(self.folder.best, self._checkpoint_of(weights, {"epoch": epoch, "dev": row}))
        patience = self.recipe.training.patience_epochs
        out_of_patience = epoch - progress["best_epoch"] >= patience
        progress["finished"] = epoch >= self.recipe.training.epochs or out_of_patience
        self.folder.write_epoch(progress["history"], progress["layers"])

    def _checkpoint_of(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> Checkpoint:
        state = {
            "data": self.data,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "commit": self.commit,
            **state,
        }
        return Checkpoint(self.recipe, self.source_text, self.target_text, tensors, state)

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer) | generator_tensors(self.fabric.device)
        save_checkpoint(self.folder.checkpoint, self._checkpoint_of(tensors, {"progress": self.progress}))

    def _resume(self) -> None:
        """Takes up the folder's checkpoint whole: weights, moments, average, generators, position."""
        path = self.folder.checkpoint
        found = load_checkpoint(path)
        if found.recipe != self.recipe or found.state.get("data") != self.data:
            raise TrainingError(
                f"{self.folder.path}: holds a run of another recipe or other data; use another folder"
            )
        try:
            self.network.load_state_dict(found.group("model"))
            if self.average is not None:
                self.average.load_state_dict(found.group("average"))
            restore_optimizer(self.optimizer, found.group("optimizer"))
            restore_generators(found.group("generator"), self.fabric.device)
            self.progress |= found.state["progress"]  # an older one lacks what is newer
            self.progress["epoch_tally"] = _new_tally() | self.progress["epoch_tally"]
            written_with = {name: found.state[name] for name in ("threads", "torch")}
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: cannot go on from it: {error}") from error
        self.folder.say(f"going on from step {self.progress['step']}")
        for name, before in written_with.items():
            if before != (now := self._checkpoint_of({}, {}).state[name]):
                self.folder.say(f"warning: {name} {before} before, {now} now: the weights may differ in bits")

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


def _new_tally() -> dict[str, Any]:
    return {"loss": 0.0, "tokens": 0, "source_tokens": 0, "seconds": 0.0, **ClipTally.new()}


def _summary(tally: dict[str, Any]) -> dict[str, float]:
    """An epoch's means: loss in nats a token, target and source tokens a second, clip shares."""
    return {
        "train_loss": tally["loss"] / tally["tokens"],
        "tokens_per_second": (tally["tokens"] + tally["source_tokens"]) / max(tally["seconds"], 1e-9),
        **ClipTally.summary(tally),
    }

"""The training loop: epochs of teacher-forced steps, checkpoints, the best model kept by dev error.

A run is a pure function of its recipe, its data, the machine and the thread count: killed at any moment and
started again, it ends with the same weights, bit for bit. Devices and precision are Lightning Fabric's.
With several processes each holds the same weights and all data, and learns from its share of each batch.
"""

import hashlib
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.batches import Batch, Lessons, pick, pick_sources, updates
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.clipping import clip_gradients
from training.data import Split, audit
from training.evaluate import evaluate
from training.examples import to_examples
from training.model import Seq2Seq
from training.objective import add_gradients
from training.ranks import Ranks
from training.recipe import Recipe, differences
from training.report import RunFolder
from training.revision import code_revision
from training.schedule import learning_rate, make_optimizer
from training.start import Start
from training.state import State
from training.stopping import StopRequest
from training.tally import add_step, by_layer, new_tally, summary
from training.teaching import lessons_key, load_lessons, save_lessons, take_lessons


class TrainingError(RuntimeError):
    """The run cannot go on: a number is not finite, or its folder belongs to another recipe or other data."""


class Trainer:
    """One run in one folder. State that a checkpoint must hold lives in `progress` and in the modules."""

    def __init__(
        self,
        recipe: Recipe,
        splits: dict[str, Split],
        start: Start,
        folder: RunFolder,
        accelerator: str = "auto",
        ranks: Ranks | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.ranks = ranks or Ranks()
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        if accelerator == "cuda" and not on_gpu:
            raise TrainingError("--device cuda: PyTorch finds no GPU here; cpu and auto are allowed")
        devices = [self.ranks.local_rank] if on_gpu else 1
        self.fabric = Fabric(accelerator=accelerator, devices=devices, precision=recipe.training.precision)
        torch.manual_seed(recipe.training.seed)
        self.audit = audit(splits) | start.about
        self.source_text, self.target_text, self.texts = start.source_text, start.target_text, start.texts()
        self.dev = splits["dev"].by_source()
        self.commit = code_revision()
        self.data = {name: split.sha256 for name, split in splits.items()}
        self.train_set = to_examples(splits["train"], *self.texts, recipe.limits, recipe.model.backwards)
        self.teachers = start.teachers
        self.lessons: Lessons | None = None
        self._make_network(start)
        self.state = State(self.network, self.optimizer, self.average, self.fabric.device, self.ranks)
        self.steps_per_epoch = len(self._updates(0))
        self.progress: dict[str, Any] = {
            "step": 0,
            "best_wer": None,
            "best_epoch": 0,
            "seconds": 0.0,
            "epoch_tally": new_tally(),
            "history": [],
            "layers": [],
            "finished": False,
        }

    def _make_network(self, start: Start) -> None:
        options = self.recipe.training
        self.network = Seq2Seq(len(self.texts[0].tokens), len(self.texts[1].tokens), self.recipe.model)
        if start.weights:
            self.network.load_state_dict(start.weights)
        if self.ranks.rank:  # the same weights everywhere, but dropout of its own
            own = np.random.SeedSequence([options.seed, self.ranks.rank])
            torch.manual_seed(int(own.generate_state(1)[0]))
        self.model, self.optimizer = self.fabric.setup(self.network, make_optimizer(self.network, options))
        decay = options.average_decay
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
        )

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
        elif self.folder.best.exists():  # killed before its first checkpoint, or somebody's
            self._refuse_another_run(load_checkpoint(self.folder.best))
        if self.progress["finished"]:
            if not self.folder.best.exists():
                raise CheckpointError(f"{self.folder.best}: this run has ended, and its best model is gone")
            self.folder.say(f"{self.folder.path}: this run has ended; nothing to do")
            return
        self.folder.start(self.recipe, self.audit, self.progress)
        if left_out := self.train_set.left_out:
            self.folder.say(
                f"train: {left_out} examples left out: empty, over the limits or with special tokens"
            )
        with StopRequest() as stop:
            if not self.teachers or self._hear_teachers(stop):
                self._train(stop)

    def _train(self, stop: StopRequest) -> None:
        """Epochs, from where the run is to its end or a request to stop."""
        with self.folder.progress(self.total_steps) as bar:
            stopping = False
            while not (stopping or self.progress["finished"]):
                epoch = self.progress["step"] // self.steps_per_epoch
                for batches in self._updates(epoch)[self.progress["step"] % self.steps_per_epoch :]:
                    self._step(batches)
                    bar.update(self.progress["step"], self.progress["epoch_tally"])
                    ended = self.progress["step"] % self.steps_per_epoch == 0
                    if ended:
                        self._end_epoch(epoch + 1)
                    stopping = self.ranks.any(stop.made)
                    if ended or stopping or self._checkpoint_is_due():
                        self._save()
                    if stopping:
                        break

    def _hear_teachers(self, stop: StopRequest) -> bool:
        """Takes the folder's lessons, or asks for them and keeps them; False where it was asked to stop."""
        options = self.recipe.training
        key = lessons_key(options.taught_by, self.train_set, options.precision)
        self.lessons = load_lessons(self.folder.lessons, key)
        if self.ranks.any(self.lessons is None):
            self.folder.say(f"{len(self.teachers)} teachers are asked about {len(self.train_set)} examples")
            tracked = partial(self.folder.tracked, text="teachers")
            asked = (self.teachers, self.train_set, self.fabric.device)
            with self.fabric.autocast():  # in the precision in which the run computes
                self.lessons = take_lessons(*asked, tracked, lambda: self.ranks.any(stop.made))
            if self.lessons and self.folder.writes:
                save_lessons(self.folder.lessons, self.lessons, key)
        self.teachers = []  # their weights are free
        return self.lessons is not None

    def _step(self, batches: list[Any]) -> None:
        """One update: gradients of the mean loss, both clips, optimiser, moving average."""
        began, computed = time.perf_counter(), time.process_time()
        options, step, tally = self.recipe.training, self.progress["step"], self.progress["epoch_tally"]
        errors = [row["dev_wer"] for row in self.progress["history"]]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(options, step, self.total_steps, errors)
        self.model.train()
        shares = [share for indices in batches if len(share := self.ranks.share(indices))]
        picked = list(map(self._pick, shares))
        sampled = options.scheduled_sampling * step / max(1, self.total_steps - 1)
        tokens, source_tokens = self.ranks.sum(
            sum(batch.tokens for batch in picked), sum(int(batch.lengths.sum()) for batch in picked)
        )
        [loss] = self.ranks.sum(add_gradients(self.fabric, self.model, picked, options, sampled, tokens))
        if not math.isfinite(loss):
            raise TrainingError(f"step {step}: the loss is {loss}; lower the learning rate or clip more")
        self.ranks.add_up(self.network.parameters())
        try:
            clipped = clip_gradients(self.network, options.clip_value, options.clip_norm)
        except FloatingPointError as error:
            raise TrainingError(f"step {step}: {error}") from error
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.progress["step"] += 1
        add_step(tally, loss, tokens, source_tokens, clipped)
        tally["seconds"] += time.perf_counter() - began
        tally["cpu_seconds"] += self.ranks.sum(time.process_time() - computed)[0]

    def _pick(self, indices: np.ndarray) -> Batch:
        if self.recipe.training.references == "marginalised":
            return pick_sources(self.train_set, indices, self.network.start_id)
        return pick(self.train_set, indices, self.network.start_id, self.lessons)

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
        if len(set(self.ranks.gather(_digest(predictor)))) > 1:
            raise TrainingError(f"epoch {epoch}: the processes no longer have the same weights")
        mine = dict(self.ranks.share(list(self.dev.items())))
        longest, device = self.recipe.limits.max_target_length, self.fabric.device
        together, backwards = self.ranks.gather_items, self.recipe.model.backwards
        scores = evaluate(predictor, mine, self.texts, longest, device, together, backwards)
        progress, tally = self.progress, self.progress["epoch_tally"]
        progress["seconds"] += tally["seconds"]
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": epoch, "step": progress["step"], "learning_rate": rate, **summary(tally)}
        row |= {"dev_wer": scores.wer, "dev_per": scores.per}
        progress["history"].append(row)
        progress["layers"] += [{"epoch": epoch, **layer} for layer in by_layer(tally)]
        progress["epoch_tally"] = new_tally()
        last = [row["dev_wer"] for row in progress["history"][-self.recipe.training.mean_of_epochs :]]
        mean = sum(last) / len(last)
        if progress["best_wer"] is None or mean < progress["best_wer"]:
            progress["best_wer"], progress["best_epoch"] = mean, epoch
            weights = {f"model.{name}": tensor for name, tensor in predictor.state_dict().items()}
            self._write(self.folder.best, weights, {"epoch": epoch, "dev_wer": scores.wer})
        patience = self.recipe.training.patience_epochs
        out_of_patience = epoch - progress["best_epoch"] >= patience
        progress["finished"] = epoch >= self.recipe.training.epochs or out_of_patience
        self.folder.write_epoch(progress["history"], progress["layers"])

    def _written_with(self) -> dict[str, Any]:
        """What decides the last bits of the weights."""
        return {"threads": torch.get_num_threads(), "torch": str(torch.__version__)}

    def _write(self, path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """One file for all ranks."""
        if self.ranks.rank == 0:
            about = {"data": self.data, "examples": len(self.train_set), "commit": self.commit}
            state = {**about, **self._written_with(), **state}
            save_checkpoint(path, Checkpoint(self.recipe, self.source_text, self.target_text, tensors, state))

    def _save(self) -> None:
        self._write(self.folder.checkpoint, self.state.tensors(), {"progress": self.progress})

    def _resume(self) -> None:
        """Takes up the folder's checkpoint whole: weights, moments, average, generators, position."""
        path = self.folder.checkpoint
        found = load_checkpoint(path)
        self._refuse_another_run(found)
        try:
            self.state.restore(found)
            progress = found.state["progress"]
            self.progress = {name: progress[name] for name in self.progress}
            self.progress["epoch_tally"] = {name: progress["epoch_tally"][name] for name in new_tally()}
            written_with = {name: found.state[name] for name in self._written_with()}
            self._refuse_other_epochs(found.state)
        except KeyError as error:
            raise CheckpointError(f"{path}: cannot go on from it: it lacks {error}") from error
        except RuntimeError as error:
            raise CheckpointError(f"{path}: cannot go on from it: {error}") from error
        self.folder.say(f"going on from step {self.progress['step']}")
        for name, now in self._written_with().items():
            if (before := written_with[name]) != now:
                self.folder.say(f"warning: {name} {before} before, {now} now: the weights may differ in bits")

    def _refuse_other_epochs(self, state: dict[str, Any]) -> None:
        """The same files may once have been read as other examples: then a step is not where it was."""
        rows, examples = self.progress["history"], len(self.train_set)
        fits = all(row["step"] == row["epoch"] * self.steps_per_epoch for row in rows)
        if not fits or state.get("examples", examples) != examples:
            raise TrainingError(
                f"{self.folder.path}: holds a run that read the same data as other examples, with an earlier "
                "version of this program: use another folder, with --from to begin where this one is"
            )

    def _refuse_another_run(self, found: Checkpoint) -> None:
        before, now = found.recipe.training.processes, self.recipe.training.processes
        if before != now:
            raise TrainingError(f"{self.folder.path}: holds a run of {before} processes, not {now}")
        data = found.state.get("data") or {}
        others = differences(found.recipe, self.recipe)
        others += [f"{name} is another file" for name, sha in self.data.items() if data.get(name) != sha]
        if found.recipe != self.recipe or data != self.data:
            raise TrainingError(
                f"{self.folder.path}: holds a run of another recipe or other data ({'; '.join(others)}): use "
                "another folder, with --from to begin where this one is"
            )


def _digest(network: Seq2Seq) -> str:
    sha = hashlib.sha256()
    for weight in network.parameters():
        sha.update(weight.detach().cpu().numpy().tobytes())
    return sha.hexdigest()

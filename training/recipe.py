"""A recipe: everything that decides what a training run computes, read from one TOML file.

Knows nothing of files other than the recipe itself, nor of tensors.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bundle.complaints import with_what_is_allowed
from bundle.values import Attention, Cell, Context, LayerCount, Length, Line, Prose, Size

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]  # finite, as everything in a checkpoint's JSON must be
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """The recipe or an override of it is wrong: the caller's fault. The text names the key."""


class Extra(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that adds to the training file, with a name and a licence of its own."""

    file: str
    name: Line
    licence: Line


class Files(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="files", tag_field="kind"):
    """Tab-separated files: a source, then one or more targets, a line. `extra` files add to `train`.

    A plain one has the name and the licence of the others.
    """

    folder: str
    train: str
    dev: str
    test: str = ""
    extra: tuple[str | Extra, ...] = ()
    name: Line
    licence: Line

    @property
    def extras(self) -> tuple[Extra, ...]:
        """The `extra` files, each with its name and licence."""
        return tuple(
            Extra(file=one, name=self.name, licence=self.licence) if isinstance(one, str) else one
            for one in self.extra
        )


class Reverse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="reverse", tag_field="kind"):
    """Random strings, each with its own reverse as the target: a task that is learnt in a minute."""

    alphabet: Annotated[str, Meta(min_length=1)]
    max_length: Count
    train: Count
    dev: Count
    test: Count


class Text(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a text becomes tokens."""

    level: Literal["char", "word"]
    lowercase: bool = False
    strip_accents: bool = False


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of the encoder-decoder, and what of the source the decoder sees at each step."""

    cell: Cell = "lstm"
    embedding_size: Size
    hidden_size: Size  # of the decoder
    encoder_hidden_size: Size | None = None  # both directions together; hidden_size where it is not given
    encoder_layers: LayerCount = 1
    decoder_layers: LayerCount = 1
    bidirectional: bool = False
    attention: Attention = "none"
    input_feeding: bool = False
    context: Context = "first-step"  # where the encoder's summary goes
    starts_from: Literal["top", "bottom"] = "top"  # which layers start a decoder that has fewer
    backwards: bool = False  # spells a target from its end: to agree with others, never to be served
    dropout: Share = 0.0
    variational_dropout: bool = False  # one mask for all steps of a sequence

    @property
    def memory_size(self) -> int:
        """Size of an encoder output, both directions together."""
        return self.encoder_hidden_size or self.hidden_size

    @property
    def starting_layers(self) -> list[int]:
        """The encoder's layer that starts each layer of the decoder."""
        skipped = max(0, self.encoder_layers - self.decoder_layers) if self.starts_from == "top" else 0
        return [min(layer + skipped, self.encoder_layers - 1) for layer in range(self.decoder_layers)]

    @property
    def bridged(self) -> bool:
        """Whether the encoder's last state is mapped before it starts the decoder."""
        return self.bidirectional or self.memory_size != self.hidden_size

    def __post_init__(self) -> None:
        if self.bidirectional and self.memory_size % 2:
            name = "encoder_hidden_size" if self.encoder_hidden_size else "hidden_size"
            raise ValueError(f"{name} {self.memory_size}: must be even for an encoder that reads both ways")
        if not self.bridged and self.encoder_layers != self.decoder_layers:
            raise ValueError(
                f"decoder_layers {self.decoder_layers}: must be encoder_layers, {self.encoder_layers}, "
                "unless bidirectional or with an encoder_hidden_size of its own"
            )
        if self.attention == "dot" and self.memory_size != self.hidden_size:
            raise ValueError(
                f"encoder_hidden_size {self.memory_size}: must be hidden_size, {self.hidden_size}, "
                'with attention = "dot"'
            )
        if self.attention == "none" and self.input_feeding:
            raise ValueError('input_feeding: must be false with attention = "none"')
        if self.input_feeding and self.variational_dropout:
            raise ValueError("variational_dropout: must be false with input_feeding")
        if self.attention != "none" and self.context == "every-step":
            raise ValueError('context "every-step": must be "first-step" with attention')


class Training(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are found. A clip of 0 is no clip; an average_decay of 0 is no average.

    `processes` is how many torchrun started; `started_from` is the SHA-256 of the model that `--from` named,
    and `taught_by` has that of each `--teacher`.
    No 16-mixed: its loss scale is one more state that decides the weights. bf16-mixed needs none.
    """

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    epochs: Count
    patience_epochs: Count
    mean_of_epochs: Count = 1  # the best model is the one with the lowest mean dev WER of that many epochs
    processes: Count = 1  # an update learns from a batch of each
    started_from: str = ""
    taught_by: tuple[str, ...] = ()
    # batches
    references: Literal["all", "sampled", "marginalised"] = "all"  # of a source with several, in one epoch
    batch_size: Count = 256  # of one process
    batch_tokens: Natural = 0  # the same, padded, source and target; 0: as many as batch_size rows have
    batches_per_update: Count = 1
    bucket_width: Count = 1
    # what is read
    word_dropout: Share = 0.0
    scheduled_sampling: Share = 0.0  # share of the model's own tokens in the last step; grows from 0
    # steps
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: NotNegative = 0.0
    learning_rate: Positive = 1e-3
    warmup_steps: Natural = 0
    schedule: Literal["constant", "cosine", "inverse-sqrt", "plateau"] = "cosine"
    plateau_epochs: Count = 2
    plateau_factor: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    label_smoothing: Share = 0.0
    teacher_weight: Share = 0.5  # of what teachers expect, beside the labels; counts where there are some
    clip_value: NotNegative = 0.0
    clip_norm: NotNegative = 0.0
    average_decay: Share = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    checkpoint_every_steps: Count = 200

    def __post_init__(self) -> None:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError('weight_decay: must be 0 unless optimizer = "adamw"')
        if self.label_smoothing and self.references == "marginalised":
            raise ValueError('label_smoothing: must be 0 with references = "marginalised"')


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Longest texts, in tokens; longer pairs are left out of training, longer requests are refused."""

    max_source_length: Length
    max_target_length: Length


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person should know of the model that comes out."""

    title: Line
    description: Prose
    licence: Line = "Apache-2.0"


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, from its data to its limits."""

    card: Card
    data: Files | Reverse
    source: Text
    target: Text
    model: Model
    training: Training
    limits: Limits


def find_recipe(name: str) -> Path:
    """The file of a recipe; a name without .toml stands for one of ours. Raises RecipeError."""
    if name.endswith(".toml"):
        return Path(name)
    if not (path := RECIPES / f"{name}.toml").is_file():
        raise RecipeError(f"recipe {name}: none of ours, which are {recipe_names()}; a file ends in .toml")
    return path


def recipe_names() -> str:
    """Our recipes, for people."""
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a TOML recipe and applies overrides written `table.key=value` (value in TOML).

    Raises RecipeError when the file cannot be read, or when a key or value is not allowed.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    for override in overrides:
        _apply(tables, override)
    try:
        return msgspec.convert(tables, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {with_what_is_allowed(error, Recipe)}") from error


def differences(before: Recipe, now: Recipe) -> list[str]:
    """What is set otherwise, for people."""
    tables: tuple[dict[str, dict[str, Any]], ...] = tuple(map(msgspec.to_builtins, (before, now)))
    return [
        f"{table}.{key} is {tables[0][table].get(key)!r} there and {value!r} here"
        for table, values in tables[1].items()
        for key, value in values.items()
        if tables[0][table].get(key) != value
    ]


def completed(
    recipe: Recipe, processes: int, started_from: str = "", taught_by: tuple[str, ...] = ()
) -> Recipe:
    """The recipe with what the command line alone decides. Raises RecipeError where the two contradict."""
    training = recipe.training
    if training.processes not in (1, processes):
        raise RecipeError(
            f"training.processes {training.processes}: torchrun started {processes}; "
            f"say torchrun --nproc-per-node {training.processes} -m -- training ..."
        )
    if training.started_from not in ("", started_from):
        raise RecipeError("training.started_from: another model than --from names, or no --from")
    if training.taught_by not in ((), taught_by):
        raise RecipeError("training.taught_by: other models than --teacher names, or in another order")
    if taught_by and training.references == "marginalised":
        raise RecipeError(
            'training.references: must be "all" or "sampled" with --teacher, not "marginalised"'
        )
    return msgspec.structs.replace(
        recipe,
        training=msgspec.structs.replace(
            training, processes=processes, started_from=started_from, taught_by=taught_by
        ),
    )


def _apply(tables: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and isinstance(tables.get(table), dict)):
        raise RecipeError(
            f"override {override!r}: expected table.key=value, with a table of {sorted(tables)}"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    tables[table][key] = value

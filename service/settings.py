"""The server's settings: flags and CHAIRLIFT_* variables, read and checked once, at the edge.

The environment is a parameter. A flag wins over its variable; an unknown variable is an error.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from bundle.complaints import with_what_is_allowed
from bundle.values import ProfileName
from service.errors import StartError

PREFIX = "CHAIRLIFT_"
ADDRESSES = ("listen", "http")
ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})")
MAX_PORT = 65_535
OTHERS = frozenset({"CHAIRLIFT_SERVER"})  # read by the client's command line
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a deployment may choose. Field `max_rows` is `--max-rows` and `CHAIRLIFT_MAX_ROWS`."""

    models: str = "models"
    default_model: str = ""
    lexicons: str = ""
    lexicon_seconds: Annotated[float, Meta(ge=0.05, le=3600)] = 2.0
    listen: str = "127.0.0.1:50051"
    http: str = "127.0.0.1:8080"
    front: Literal["auto", "core", "aio"] = "auto"
    profile: Literal["", ProfileName] = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    tf32: bool = False
    engines: Annotated[int, Meta(ge=1, le=64)] = 1
    kernels: bool = True
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    max_rows: Annotated[int, Meta(ge=2, le=4096)] = 256
    max_waiting: Count = 4096
    max_inputs: Count = 1024
    encode_tokens: Count = 1024
    single_flight: bool = True
    answer_cache: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    max_request_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    lame_duck_seconds: Seconds = 5.0
    drain_seconds: Seconds = 30.0
    reflection: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"


HELP = {
    "models": "model repository: a folder of NAME/VERSION/ bundles",
    "default_model": "model of requests that name none (default: the only one, or g2p-en)",
    "lexicons": "folder of exception lexicons, NAME.tsv for the model NAME, which replace the bundles' own",
    "lexicon_seconds": "how often those are looked at; a change is taken at the look after",
    "listen": "address of the gRPC port; port 0: any free one",
    "http": "address of the HTTP port with /metrics; port 0: any free one",
    "front": "what takes the calls: gRPC's C core, compiled in, or grpc.aio; auto: core where it is there",
    "profile": "how numbers are computed (default: each bundle's own choice)",
    "engines": "engine processes of a model, each with its own rows",
    "single_flight": "whether equal inputs that are inside at the same time are decoded once",
    "answer_cache": "finished answers that are kept for equal inputs; 0: none",
    "device": "where to decode; auto falls back from CUDA to the CPU, cuda refuses to",
    "tf32": "whether a GPU may multiply float32 in TF32: faster, and about as exact as fp16",
    "kernels": "whether compiled kernels decode what they suit; else ONNX Runtime decodes everything",
    "threads": "threads of one encoder or decoder run",
    "max_rows": "sequences that are decoded together",
    "max_waiting": "sequences that may wait for a row, none of lower priority counted; more are refused",
    "max_inputs": "inputs in one call",
    "encode_tokens": "source tokens encoded between two steps, which bounds how long others are held up",
    "max_request_seconds": "longest time for a request, and the deadline of those that bring none",
    "lame_duck_seconds": "after SIGTERM, how long new calls are still taken",
    "drain_seconds": "after that, how long calls inside may go on",
    "reflection": "whether gRPC reflection is served",
    "log_level": "least level that is logged",
}


def settings_of_process() -> Settings:
    """What this process was started with. Raises as `read_settings`."""
    return read_settings(sys.argv[1:], os.environ)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from flags, then variables, then defaults.

    Raises StartError naming the key and value that are wrong, and SystemExit for --help and unknown flags.
    """
    flags = vars(_parser().parse_args(arguments))
    values = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in OTHERS:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in HELP:
            known = ", ".join(PREFIX + key.upper() for key in HELP)
            raise StartError(f"{variable}: no such setting; known are {known}")
        values[name] = (variable, value)
    for name, value in flags.items():
        if value is not None:
            values[name] = (f"--{name.replace('_', '-')}", value)
    checked = {name: _checked(name, key, value) for name, (key, value) in values.items()}
    return msgspec.structs.replace(Settings(), **checked)


def _checked(name: str, key: str, value: str) -> object:
    """One value, converted from text. Raises StartError."""
    try:
        checked = getattr(msgspec.convert({name: value}, Settings, strict=False), name)
    except msgspec.ValidationError as error:
        why = with_what_is_allowed(error, Settings).removeprefix(f"{name}: ")
        raise StartError(f"{key}={value!r}: {why}") from error
    if name in ADDRESSES:
        found = ADDRESS.fullmatch(value)
        if not found or int(found[1]) > MAX_PORT:
            raise StartError(f"{key}={value!r}: HOST:PORT is wanted, with a port from 0 to {MAX_PORT}")
    return checked


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m service",
        allow_abbrev=False,
        description="Serves the bundles of a model repository over gRPC. Each flag is also a variable: "
        "--max-rows is CHAIRLIFT_MAX_ROWS.",
    )
    kinds = get_type_hints(Settings)
    for name, text in HELP.items():
        default = getattr(defaults, name)
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(default, bool) else {}
        default = str(default).lower() if switch else default
        choices = "|".join(filter(None, get_args(kinds[name]))) if get_origin(kinds[name]) is Literal else ""
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            help=text + (f" (default: {default})" if default != "" else ""),
            metavar="true|false" if switch else choices or "VALUE",
            **switch,
        )
    return parser

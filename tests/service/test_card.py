"""The model card reaches callers whole, with what older bundles do not measure and without."""

from dataclasses import asdict

import msgspec

from bundle.card import DataSource, Score, Speed, Timing
from chairlift.description_wire import model as model_of
from chairlift.v1 import seq2seq_pb2 as pb

DATA = DataSource(name="words", licence="CC0-1.0", split="train", examples=7, sha256="5" * 64)
PLAIN = Score(dataset="test", metric="ECE", value=1.5, sources=7, decoding="greedy")
SCORE = msgspec.structs.replace(PLAIN, metric="WER", value=23.5, interval_95=(22.75, 24.25))
TIMINGS = tuple(
    Timing(profile="int8", rows=rows, source_microseconds=35.5 / rows, step_microseconds=2.0 * rows)
    for rows in (1, 32)
)
SPEED = Speed(machine="a fast one", runtime="ONNX Runtime 9", threads=1, source_length=8, timings=TIMINGS)


async def test_it_is_described_whole(start, bundle):
    service = await start()
    plain = bundle.manifest.card
    for changes in ({}, {"data": (DATA,), "scores": (PLAIN, SCORE), "speed": SPEED}, {"speed": None}):
        card = msgspec.structs.replace(plain, **changes)
        service.model.manifest = msgspec.structs.replace(bundle.manifest, card=card)
        described = (await service.stub.GetModel(pb.GetModelRequest(), timeout=10)).model
        fields = msgspec.to_builtins(card, builtin_types=(tuple,))
        del fields["recipe"]
        found = asdict(model_of(described).card)
        assert msgspec.json.encode(found) == msgspec.json.encode(fields)

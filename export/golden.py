"""Golden cases: samples whose answers PyTorch and every profile agree on, with PyTorch's own scores."""

from collections.abc import Sequence

from bundle.golden import Golden, GoldenCase
from export.cascade import decode
from export.parity import ParityError
from export.profiles import FP32_TOLERANCE, Exported
from training.beam import BeamOptions
from training.evaluate import answer
from training.model import Seq2Seq

CASES = 32
LEAST_CASES = 8
MARGIN = 2.0  # times the largest difference that was seen: another processor rounds otherwise
LEAST_MARGIN = 0.05  # natural-log units: two logits up to 32, and each may be rounded otherwise


def choose_golden(
    model: Seq2Seq,
    texts: Sequence[str],
    ids: Sequence[list[int]],
    exported: Sequence[Exported],
    max_length: int,
) -> Golden:
    """A spread of the texts, each decoded alone. Raises ParityError where a profile agrees too seldom."""
    near_ties = _near_ties(exported, ids, model.start_id, max_length)
    cases = []
    for index, text in enumerate(texts):
        ((tokens, scores),) = answer(model, [ids[index]], max_length)
        if index in near_ties or any(one.answers[index][0] != tokens for one in exported):
            continue
        cases.append(
            GoldenCase(
                text=text,
                source_ids=tuple(ids[index]),
                target_ids=tuple(tokens),
                token_scores=tuple(scores),
                score=sum(scores),
            )
        )
    if len(cases) < LEAST_CASES:
        names = ", ".join(one.name for one in exported)
        sure = "surely give" if near_ties else "give"
        raise ParityError(
            f"{names} {sure} PyTorch's tokens for {len(cases)} of {len(texts)} samples; {LEAST_CASES} are "
            "needed to know the bundle by: try --profiles fp32"
        )
    chosen = range(0, len(cases), max(1, len(cases) // CASES))
    return Golden(cases=tuple(cases[index] for index in list(chosen)[:CASES]))


def _near_ties(
    exported: Sequence[Exported], ids: Sequence[list[int]], start_id: int, max_length: int
) -> set[int]:
    """The samples whose tokens another runtime may change, in a profile that rounds: a GPU, or kernels.

    In fp16 it may round a sum to the next float16, in int8 a unit to the next byte.
    """
    found: set[int] = set()
    for one in exported:
        if one.name != "fp32":
            _, margins = decode(one.graphs, ids, start_id, BeamOptions(max_length=max_length))
            found |= {index for index, margin in enumerate(margins) if margin < LEAST_MARGIN}
    return found


def tolerance_of(exported: Exported, golden: Golden, start_id: int) -> float:
    """How far a token's score may lie from PyTorch's in this profile, in natural-log units."""
    if exported.name == "fp32":
        return FP32_TOLERANCE
    sources = [case.source_ids for case in golden.cases]
    longest = max(len(case.target_ids) for case in golden.cases)
    found = exported.graphs.greedy(sources, start_id, longest)
    worst = max(
        abs(score - true)
        for (_, scores), case in zip(found, golden.cases, strict=True)
        for score, true in zip(scores, case.token_scores, strict=True)  # their tokens agree
    )
    return max(FP32_TOLERANCE, round(MARGIN * worst, 3))

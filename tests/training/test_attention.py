"""Attention and the decoder's other views of a source, against their slow and obvious versions."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from training.attention import Attention
from training.model import Seq2Seq
from training.recipe import Model

VIEWS = [
    {},
    {"context": "every-step"},
    *(
        {"attention": kind, "input_feeding": feeding}
        for kind in ("dot", "general", "additive")
        for feeding in (False, True)
    ),
]
SOURCE = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])
READ = torch.tensor([[6, 2, 3], [6, 4, 5], [6, 3, 3]])


@dataclass
class Case:
    model: Seq2Seq
    sizes: Model


@pytest.fixture(params=VIEWS, ids=lambda view: "-".join(map(str, view.values())) or "plain")
def view(request: pytest.FixtureRequest) -> dict[str, object]:
    return request.param


@pytest.fixture(params=[1, 2], ids="{}-layers".format)
def layers(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=[False, True], ids=["one-way", "two-ways"])
def case(request: pytest.FixtureRequest, view: dict[str, object], layers: int) -> Case:
    wider = {} if view.get("attention") == "dot" else {"encoder_hidden_size": 12}
    sizes = Model(
        embedding_size=6,
        hidden_size=8,
        encoder_layers=layers,
        decoder_layers=layers,
        bidirectional=request.param,
        **wider,
        **view,
    )
    torch.manual_seed(7)
    return Case(Seq2Seq(9, 7, sizes).eval(), sizes)


def test_a_padded_row_is_as_if_alone(case: Case) -> None:
    together = case.model(SOURCE, LENGTHS, READ)
    for row, length in enumerate(LENGTHS):
        alone = case.model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], READ[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_teacher_forcing_is_what_single_steps_give(case: Case) -> None:
    state, memory = case.model.begin(SOURCE, LENGTHS)
    steps = []
    for tokens in READ.split(1, dim=1):
        logits, state, _ = case.model.decoder(tokens, state, memory)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), case.model(SOURCE, LENGTHS, READ), rtol=1e-5, atol=1e-6)


def test_greedy_takes_the_best_of_what_teacher_forcing_gives(case: Case) -> None:
    for row, (ids, scores) in enumerate(case.model.greedy(SOURCE, LENGTHS, 6)):
        read = torch.tensor([[case.model.start_id, *ids[:-1]]])
        length = LENGTHS[row]
        logits = case.model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], read)
        log_probs = logits[0].log_softmax(1)
        assert log_probs.argmax(1).tolist() == ids
        assert log_probs.max(1).values.tolist() == pytest.approx(scores, abs=1e-5)


def test_every_parameter_learns(case: Case) -> None:
    case.model.train()
    case.model(SOURCE, LENGTHS, READ).logsumexp(2).sum().backward()
    silent = {
        name
        for name, parameter in case.model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    assert silent == set()


@pytest.mark.parametrize("kind", ["dot", "general", "additive"])
def test_alignments_lie_on_the_source_and_add_up_to_one(kind: str) -> None:
    torch.manual_seed(7)
    model = Seq2Seq(9, 7, Model(embedding_size=6, hidden_size=8, attention=kind)).eval()
    alignments = model.align(SOURCE, LENGTHS, READ)
    assert alignments.shape == (3, 3, 4)
    torch.testing.assert_close(alignments.sum(2), torch.ones(3, 3))
    for row, length in enumerate(LENGTHS):
        assert alignments[row, :, :length].gt(0).all()
        assert alignments[row, :, length:].eq(0).all()


@pytest.mark.parametrize("feeding", [False, True])
def test_alignments_are_those_that_an_answer_was_decoded_with(feeding: bool) -> None:
    torch.manual_seed(7)
    sizes = Model(embedding_size=6, hidden_size=8, attention="general", input_feeding=feeding)
    model = Seq2Seq(9, 7, sizes).eval()
    state, memory = model.begin(SOURCE[:1], LENGTHS[:1])
    ((ids, _),) = model.greedy(SOURCE[:1], LENGTHS[:1], 5)
    read = torch.tensor([[model.start_id, *ids[:-1]]])
    used = []
    for token in read[0]:
        decoded = model.decoder(token.view(1, 1), state, memory)
        state = decoded.state
        used.append(decoded.alignments)
    torch.testing.assert_close(model.align(SOURCE[:1], LENGTHS[:1], read), torch.cat(used, 1))


def test_without_the_mask_padding_would_show() -> None:
    """Negative control of the tests of padding: a memory that takes padding for tokens answers otherwise."""
    torch.manual_seed(7)
    model = Seq2Seq(9, 7, Model(embedding_size=6, hidden_size=8, attention="general")).eval()
    state, memory = model.begin(SOURCE, LENGTHS)
    assert memory is not None
    unmasked = memory._replace(mask=torch.ones_like(memory.mask))
    true = model.decoder(READ, state, memory).logits
    assert not torch.allclose(model.decoder(READ, state, unmasked).logits, true, rtol=1e-5, atol=1e-6)


def test_input_feeding_shows() -> None:
    """Negative control of single steps: the vector that is carried over matters."""
    torch.manual_seed(7)
    sizes = Model(embedding_size=6, hidden_size=8, attention="dot", input_feeding=True)
    model = Seq2Seq(9, 7, sizes).eval()
    state, memory = model.begin(SOURCE, LENGTHS)
    _, state, _ = model.decoder(READ[:, :1], state, memory)
    forgotten = (*state[:-1], torch.zeros_like(state[-1]))
    true = model.decoder(READ[:, 1:], state, memory).logits
    assert not torch.allclose(model.decoder(READ[:, 1:], forgotten, memory).logits, true, atol=1e-4)


def by_hand(kind: str, attention: Attention, query: Tensor, value: Tensor) -> float:
    """One score by its formula."""
    if kind == "dot":
        return float(query @ value)
    assert attention.key is not None
    if kind == "general":
        return float(query @ (attention.key.weight @ value))
    assert attention.query is not None
    assert attention.energy is not None
    inner = attention.query.weight @ query + attention.query.bias + attention.key.weight @ value
    return float(attention.energy.weight[0] @ torch.tanh(inner))


@pytest.mark.parametrize("kind", ["dot", "general", "additive"])
def test_scores_and_context_by_their_formulas(kind: str) -> None:
    torch.manual_seed(3)
    attention = Attention(Model(embedding_size=1, hidden_size=4, attention=kind))
    values, query = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
    with torch.no_grad():
        context, weights = attention(query, attention.remember(values, torch.tensor([2])))
        for step in range(2):
            scores = [math.exp(by_hand(kind, attention, query[0, step], values[0, s])) for s in range(2)]
            expected = [score / sum(scores) for score in scores]
            assert weights[0, step].tolist() == pytest.approx([*expected, 0.0], abs=1e-6)
            mixed = expected[0] * values[0, 0] + expected[1] * values[0, 1]
            torch.testing.assert_close(context[0, step], mixed)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"attention": "dot", "encoder_hidden_size": 4}, "encoder_hidden_size 4: must be hidden_size, 8"),
        ({"input_feeding": True}, 'must be false with attention = "none"'),
        ({"attention": "dot", "context": "every-step"}, 'must be "first-step" with attention'),
        (
            {"attention": "dot", "input_feeding": True, "variational_dropout": True},
            "variational_dropout: must",
        ),
        ({"encoder_hidden_size": 5, "bidirectional": True}, "encoder_hidden_size 5: must be even"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Model(embedding_size=6, hidden_size=8, **wrong)


def test_a_model_without_attention_aligns_nothing() -> None:
    with pytest.raises(ValueError, match="has no attention"):
        Seq2Seq(9, 7, Model(embedding_size=6, hidden_size=8)).align(SOURCE, LENGTHS, READ)

"""What an update learns from: several batches, words left out, the model's own words; both dropouts."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from training.batches import IGNORED, Batch
from training.examples import UNKNOWN_ID
from training.model import Seq2Seq
from training.objective import add_gradients, drop_words, mix_own
from training.recipe import Model, Training
from training.recurrent import make_dropout


def batch(rows: slice) -> Batch:
    """Rows of three fixed examples, each as wide as the widest."""
    source = torch.tensor([[2, 3, 4], [5, 6, 7], [8, 2, 3]])[rows]
    read = torch.tensor([[6, 2, 3], [6, 4, 5], [6, 3, 3]])[rows]
    labels = torch.tensor([[2, 3, 0], [4, 0, IGNORED], [3, 3, 0]])[rows]
    return Batch(source, torch.full((len(source),), 3), read, labels)


def gradients(batches: list[Batch], **changes: object) -> tuple[float, list[Tensor]]:
    torch.manual_seed(7)
    model = Seq2Seq(9, 7, Model(embedding_size=6, hidden_size=8))
    options = Training(epochs=1, patience_epochs=1, label_smoothing=0.1, **changes)
    loss = add_gradients(Fabric(accelerator="cpu"), model, batches, options, 0.0)
    return loss, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_batches_of_an_update_count_as_one() -> None:
    """By tokens, that is: the batches of two and of one example have 5 and 3 of them."""
    loss, whole = gradients([batch(slice(0, 3))])
    parts_loss, parts = gradients([batch(slice(0, 2)), batch(slice(2, 3))])
    assert parts_loss == pytest.approx(loss, abs=1e-6)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_words_left_out_show() -> None:
    assert gradients([batch(slice(0, 3))], word_dropout=0.9)[0] != gradients([batch(slice(0, 3))])[0]


def test_the_share_of_words_that_become_unknown() -> None:
    torch.manual_seed(1)
    tokens = torch.full((200, 50), 9)
    dropped = drop_words(tokens, 0.2, spared=1)
    assert dropped[:, 0].eq(9).all()
    assert set(dropped.unique().tolist()) == {9, UNKNOWN_ID}
    assert dropped[:, 1:].eq(UNKNOWN_ID).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert drop_words(tokens, 0.0) is tokens


def counting(source: Tensor, lengths: Tensor, read: Tensor) -> Tensor:
    """Logits of a model that says the token after the one it reads, of 0 to 7."""
    return torch.nn.functional.one_hot((read + 1) % 8, 8).float()


def test_own_words_come_one_step_later_and_never_end_a_text() -> None:
    torch.manual_seed(1)
    read = torch.tensor([[5, 2, 7, 4, 6]]).repeat(400, 1)
    mixed = mix_own(counting, read, torch.full((400,), 5), read, 0.3)
    assert mixed[:, 0].eq(5).all()
    assert [set(column.unique().tolist()) for column in mixed.T] == [{5}, {2, 6}, {7, 3}, {4}, {6, 5}]
    assert mixed[:, 1].eq(6).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(mix_own(counting, read, torch.full((400,), 5), read, 0.0), read)


@pytest.mark.parametrize("variational", [False, True])
def test_variational_dropout_has_one_mask_for_all_steps(variational: bool) -> None:
    torch.manual_seed(1)
    dropout = make_dropout(0.5, variational)
    dropped = dropout(torch.ones(100, 7, 30))
    assert (dropped == dropped[:, :1]).all().item() is variational
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(dropout.eval()(dropped), dropped)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(kind: torch.dtype) -> None:
    torch.manual_seed(1)
    dropout = make_dropout(0.35, variational=False)
    ones = torch.ones(101, 33, 31, dtype=kind, requires_grad=True)  # not a multiple of four elements
    dropped = dropout(ones)
    dropped.sum().backward()
    assert dropped.dtype == kind
    assert dropped.unique().tolist() == pytest.approx(
        [0.0, torch.tensor(1 / 0.65, dtype=kind).item()], rel=1e-4
    )
    assert dropped.eq(0).float().mean().item() == pytest.approx(0.35, abs=0.01)
    assert dropped.eq(0).float().mean((0, 1)).std().item() < 0.02  # no place is spared
    assert ones.grad is not None
    assert torch.equal(ones.grad, dropped)
    assert not torch.equal(dropout(ones), dropped)
    assert torch.equal(make_dropout(0.0, variational=False)(ones), ones)

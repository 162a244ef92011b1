"""The network against its slow and obvious versions."""

import pytest
import torch

from training.model import Seq2Seq
from training.recipe import Model

SIZES = {
    "one way": Model(embedding_size=6, hidden_size=8, encoder_layers=2, decoder_layers=2),
    "two ways": Model(embedding_size=6, hidden_size=8, bidirectional=True, dropout=0.5),
    "deeper encoder": Model(embedding_size=6, hidden_size=8, encoder_layers=3, bidirectional=True),
    "deeper encoder, two": Model(
        embedding_size=6, hidden_size=8, encoder_layers=3, decoder_layers=2, encoder_hidden_size=6
    ),
    "deeper decoder": Model(embedding_size=6, hidden_size=8, decoder_layers=3, bidirectional=True),
}


@pytest.fixture(params=SIZES)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    torch.manual_seed(7)
    return Seq2Seq(9, 7, SIZES[request.param]).eval()


SOURCE = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])
READ = torch.tensor([[6, 2, 3], [6, 4, 5], [6, 3, 3]])


def test_a_padded_row_is_as_if_alone(model: Seq2Seq) -> None:
    together = model(SOURCE, LENGTHS, READ)
    for row, length in enumerate(LENGTHS):
        alone = model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], READ[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)


def test_without_the_lengths_padding_would_show(model: Seq2Seq) -> None:
    """Negative control of the test above."""
    padded = model(SOURCE[2:], torch.tensor([4]), READ[2:])
    assert not torch.allclose(padded, model(SOURCE, LENGTHS, READ)[2:], rtol=1e-5, atol=1e-6)


def test_greedy_takes_the_best_of_what_teacher_forcing_gives(model: Seq2Seq) -> None:
    for row, (ids, scores) in enumerate(model.greedy(SOURCE, LENGTHS, 6)):
        read = torch.tensor([[model.start_id, *ids[:-1]]])
        length = LENGTHS[row]
        log_probs = model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], read)[0].log_softmax(1)
        assert log_probs.argmax(1).tolist() == ids
        assert log_probs.max(1).values.tolist() == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize(("bias", "ids"), [(-100.0, 5), (100.0, 1)])
def test_greedy_ends_at_the_limit_or_after_the_end_token(model: Seq2Seq, bias: float, ids: int) -> None:
    model.decoder.output.bias.data[0] = bias  # how much it wants <E>
    for found, scores in model.greedy(SOURCE, LENGTHS, 5):
        assert (len(found), len(scores)) == (ids, ids)
        assert (0 in found) == (bias > 0)


def test_greedy_leaves_the_mode_as_it_was(model: Seq2Seq) -> None:
    assert not model.training
    model.train()
    model.greedy(SOURCE, LENGTHS, 2)
    assert model.training


def test_forget_bias_is_one_in_all_and_recurrent_weights_are_orthogonal(model: Seq2Seq) -> None:
    for lstm in (model.encoder.recurrent, model.decoder.recurrent):
        size = lstm.hidden_size
        for name, weight in lstm.named_parameters():
            if name.startswith("bias_ih"):
                total = weight + getattr(lstm, name.replace("_ih", "_hh"))
                assert total.tolist() == [0.0] * size + [1.0] * size + [0.0] * 2 * size
            if name.startswith("weight_hh"):
                for gate in weight.chunk(4):
                    torch.testing.assert_close(gate @ gate.T, torch.eye(size), rtol=0, atol=1e-5)


def test_every_parameter_learns(model: Seq2Seq) -> None:
    model.train()
    model(SOURCE, LENGTHS, READ).logsumexp(2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_start_from_the_bottom_would_teach_the_top_nothing() -> None:
    """Negative control of the test above, and how such networks once were."""
    sizes = Model(embedding_size=6, hidden_size=8, encoder_layers=3, bidirectional=True, starts_from="bottom")
    model = Seq2Seq(9, 7, sizes)
    model(SOURCE, LENGTHS, READ).logsumexp(2).sum().backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle and all("encoder.recurrent" in name for name in idle)


@pytest.mark.parametrize(
    ("layers", "top", "bottom"),
    [((3, 1), [2], [0]), ((3, 2), [1, 2], [0, 1]), ((2, 2), [0, 1], [0, 1]), ((1, 3), [0] * 3, [0] * 3)],
)
def test_which_layers_start_the_decoder(layers: tuple[int, int], top: list[int], bottom: list[int]) -> None:
    for starts_from, wanted in (("top", top), ("bottom", bottom)):
        sizes = Model(
            embedding_size=6,
            hidden_size=8,
            bidirectional=True,
            encoder_layers=layers[0],
            decoder_layers=layers[1],
            starts_from=starts_from,
        )
        assert sizes.starting_layers == wanted


def test_weights_under_their_old_names_are_taken(model: Seq2Seq) -> None:
    """Checkpoints once called the recurrent layers `lstm`."""
    weights = {name.replace(".recurrent.", ".lstm."): value + 1 for name, value in model.state_dict().items()}
    assert weights.keys() != model.state_dict().keys()
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name.replace(".recurrent.", ".lstm.")])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="must be even"):
        Model(embedding_size=6, hidden_size=7, bidirectional=True)
    with pytest.raises(ValueError, match="must be encoder_layers, 1"):
        Model(embedding_size=6, hidden_size=8, decoder_layers=2)

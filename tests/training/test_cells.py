"""Every kind of cell against its formulas, one step at a time, and against PyTorch where that has it."""

import pytest
import torch
from torch import Tensor

from training.cells import CELLS, Cell, run_own
from training.model import Seq2Seq
from training.recipe import Model
from training.recurrent import Recurrent

OWN = [name for name, cell in CELLS.items() if cell.own]
SOURCE = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0], [8, 0, 0, 0]])
LENGTHS = torch.tensor([4, 2, 1])
READ = torch.tensor([[6, 2, 3], [6, 4, 5], [6, 3, 3]])


def layer(name: str, inputs: int = 3, hidden: int = 4) -> Recurrent:
    """One layer with every weight random, those that start as zeros too."""
    torch.manual_seed(5)
    recurrent = Recurrent(name, inputs, hidden, 1, torch.nn.Dropout(0.0)).double()
    for parameter in recurrent.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return recurrent


def step(name: str, recurrent: Recurrent, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One step by the formulas: x [B, in], state [B, H] each -> the next state."""
    cell, weights = CELLS[name], recurrent.weights(0, "")
    of_input = x @ weights["weight_ih"].T + weights["bias" if cell.own else "bias_ih"]
    of_state = state[0] @ weights["weight_hh"].T
    if not cell.own:
        of_state = of_state + weights["bias_hh"]
    count = len(cell.gates)
    a = dict(
        zip(cell.gates, zip(of_input.chunk(count, 1), of_state.chunk(count, 1), strict=True), strict=True)
    )
    s = torch.sigmoid
    if name == "rnn":
        return (torch.tanh(sum(a["h"])),)
    if name == "gru":
        r, z = s(sum(a["r"])), s(sum(a["z"]))
        n = torch.tanh(a["n"][0] + r * a["n"][1])
        return ((1 - z) * n + z * state[0],)
    peephole = dict(zip(cell.peepholes, weights.get("peephole", ()), strict=True))
    c = state[1]
    f = s(sum(a["f"]) + peephole.get("f", 0) * c)
    i = s(sum(a["i"]) + peephole.get("i", 0) * c) if "i" in a else 1 - f
    new_c = f * c + i * torch.tanh(sum(a["g"]))
    o = s(sum(a["o"]) + peephole.get("o", 0) * new_c)
    return o * torch.tanh(new_c), new_c


@pytest.mark.parametrize("name", CELLS)
def test_a_layer_is_its_formulas_one_step_after_the_other(name: str) -> None:
    recurrent = layer(name)
    x = torch.randn(2, 5, 3, dtype=torch.double)
    state = tuple(torch.randn(1, 2, 4, dtype=torch.double) for _ in range(CELLS[name].states))
    outputs, last = recurrent(x, state)
    expected = tuple(part[0] for part in state)
    for t in range(5):
        expected = step(name, recurrent, x[:, t], expected)
        torch.testing.assert_close(outputs[:, t], expected[0])
    for found, true in zip(last, expected, strict=True):
        torch.testing.assert_close(found[0], true)


@pytest.mark.parametrize("name", OWN)
def test_gradients_of_our_cells_are_those_of_finite_differences(name: str) -> None:
    recurrent = layer(name)
    weights = recurrent.weights(0, "")
    shapes = ((3, 2, 3), (2, 4), (2, 4))
    given = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]

    def run(x: Tensor, h: Tensor, c: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        return run_own(CELLS[name], x, h, c, dict(zip(weights, values, strict=True)))

    assert torch.autograd.gradcheck(run, (*given, *weights.values()))


def test_without_peepholes_and_coupling_ours_is_pytorchs_lstm() -> None:
    recurrent = layer("lstm")
    weights = recurrent.weights(0, "")
    ours = {name: weights[name] for name in ("weight_ih", "weight_hh")}
    ours["bias"] = weights["bias_ih"] + weights["bias_hh"]
    x, zeros = torch.randn(5, 2, 3, dtype=torch.double), torch.zeros(2, 4, dtype=torch.double)
    hidden, memory = run_own(Cell(("i", "f", "g", "o"), own=True), x, zeros, zeros, ours)
    outputs, (_, last) = recurrent(x.transpose(0, 1))
    torch.testing.assert_close(hidden.transpose(0, 1), outputs)
    torch.testing.assert_close(memory[-1], last[0])


@pytest.mark.parametrize("name", OWN)
def test_our_cells_run_in_bf16(name: str) -> None:
    recurrent, x = layer(name).float(), torch.randn(2, 5, 3)
    exact = recurrent(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = recurrent(x)[0]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.05)
    found.sum().backward()
    assert all(bool(p.grad is not None and p.grad.isfinite().all()) for p in recurrent.parameters())


@pytest.fixture(params=[(1, False), (2, True), (3, True)], ids=str)
def depth(request: pytest.FixtureRequest) -> tuple[int, bool]:
    return request.param


@pytest.mark.parametrize("attention", ["none", "general"])
@pytest.mark.parametrize("name", CELLS)
def test_padding_teacher_forcing_and_greedy(name: str, attention: str, depth: tuple[int, bool]) -> None:
    layers, both_ways = depth
    sizes = {"encoder_layers": layers, "decoder_layers": layers, "bidirectional": both_ways}
    torch.manual_seed(7)
    model = Seq2Seq(
        9, 7, Model(cell=name, embedding_size=6, hidden_size=8, attention=attention, **sizes)
    ).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    together = model(SOURCE, LENGTHS, READ)
    for row, length in enumerate(LENGTHS):
        alone = model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], READ[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-6)
    state, memory = model.begin(SOURCE, LENGTHS)
    for t, tokens in enumerate(READ.split(1, dim=1)):
        logits, state, _ = model.decoder(tokens, state, memory)
        torch.testing.assert_close(logits[:, 0], together[:, t], rtol=1e-5, atol=1e-6)
    ids, scores = model.greedy(SOURCE, LENGTHS, 6)[0]
    log_probs = model(SOURCE[:1], LENGTHS[:1], torch.tensor([[model.start_id, *ids[:-1]]]))[0].log_softmax(1)
    assert log_probs.argmax(1).tolist() == ids
    assert log_probs.max(1).values.tolist() == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_reading_backwards_past_a_rows_end_would_show(name: str) -> None:
    """Negative control of padding: a row whose length is taken for the batch's is read otherwise."""
    torch.manual_seed(7)
    recurrent = Recurrent(name, 3, 4, 1, torch.nn.Dropout(0.0), bidirectional=True)
    x = torch.randn(2, 4, 3)
    true, last = recurrent(x, lengths=torch.tensor([4, 2]))
    wrong, wrong_last = recurrent(x)
    assert torch.allclose(true[0], wrong[0], atol=1e-6)
    assert not torch.allclose(true[1, :2], wrong[1, :2], atol=1e-3)
    assert not torch.allclose(last[0][0, 1], wrong_last[0][0, 1], atol=1e-3)
    assert true[1, 2:].abs().sum() == 0


@pytest.mark.parametrize("name", CELLS)
def test_first_weights(name: str) -> None:
    recurrent, cell = Recurrent(name, 3, 4, 1, torch.nn.Dropout(0.0)), CELLS[name]
    weights = recurrent.weights(0, "")
    for block in weights["weight_hh"].chunk(len(cell.gates)):
        torch.testing.assert_close(block @ block.T, torch.eye(4), rtol=0, atol=1e-5)
    bias = sum(weight for key, weight in weights.items() if key.startswith("bias"))
    assert bias.tolist() == [float(gate == "f") for gate in cell.gates for _ in range(4)]
    assert "peephole" not in weights or weights["peephole"].eq(0).all()


def test_dropout_lies_between_the_layers_alone() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 3)
    for layers, differs in ((1, False), (2, True)):
        recurrent = Recurrent("gru", 3, 4, layers, torch.nn.Dropout(0.5))
        assert torch.equal(recurrent(x)[0], recurrent(x)[0]) is not differs

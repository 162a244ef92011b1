"""The decoder's graph, one step of it, in any profile.

Letters: R rows, E embedding, H hidden, D encoder output, G gates, V tokens that can be emitted.
"""

from bundle.graphs import decoder_graph
from bundle.manifest import Architecture, Vocabulary
from export.arithmetic import Float32
from export.attention import add_attention
from export.cells import add_cell
from export.gates import weights_of
from export.selection import add_selection
from training.decoder import Decoder
from training.model import Seq2Seq


def build_decoder(
    graph: Float32, model: Seq2Seq, architecture: Architecture, vocabulary: Vocabulary
) -> bytes:
    """token [R], state, memory -> what may follow, and the next state; with attention also `alignments`."""
    decoder = model.decoder
    summary = ["summary"] if decoder.every_step else []
    query, unit = _first_cell(graph, decoder, ["fed"] if decoder.input_feeding else summary)
    layers = range(1, architecture.decoder_layers)
    if decoder.attention is None:
        parts, further = [unit], [weights_of(decoder.recurrent, layer) for layer in layers]
    else:
        size = architecture.encoder_hidden_size
        context = add_attention(graph, decoder.attention, size, query, unit)
        parts = [unit, context]
        further = [weights_of(decoder.further, layer - 1) for layer in layers] if decoder.further else []
    for layer, weights in zip(layers, further, strict=True):
        _, unit = add_cell(graph, weights, layer, parts)
        parts = [unit]
    if decoder.attention is not None:
        sums = graph.linear([unit, context], decoder.attentional, "attentional")  # [R, H]
        unit = graph.unit("Tanh", [sums], "next_fed" if decoder.input_feeding else "vector")[1]
    add_selection(graph, graph.linear([unit, *summary], decoder.output, "logits"), vocabulary)
    return graph.finish(decoder_graph(architecture, vocabulary, graph.profile))


def _first_cell(graph: Float32, decoder: Decoder, parts: list[str]) -> tuple[str, str]:
    """The cell that reads the token: its embedding's product with the weights is a table, one row a token."""
    weights = weights_of(decoder.recurrent, 0)
    embedding = decoder.embedding.weight.detach().cpu().numpy()  # [V + 1, E]
    size = embedding.shape[1]
    table = graph.table("token_gates", embedding @ weights.read[:size] + weights.bias)  # [V + 1, G * H]
    driven = graph.add("Gather", [table, "token"], "driven")
    return add_cell(graph, weights._replace(read=weights.read[size:]), 0, parts, driven)

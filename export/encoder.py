"""The encoder's graph in any profile: layers over the source, and what the decoder gets of them.

Letters: B batch, S source length, H hidden of the decoder, D encoder output, all directions.
"""

from collections.abc import Callable

import numpy as np

from bundle.graphs import encoder_graph
from bundle.manifest import Architecture
from export.arithmetic import Float32
from export.attention import add_memory
from export.layers import Encoded, add_layers
from export.padding import add_own, add_zeros
from export.quantised_layers import add_quantised_layers
from export.scanned_layers import add_scanned_layers
from training.model import Encoder, Seq2Seq


def build_encoder(
    graph: Float32, model: Seq2Seq, architecture: Architecture, max_source_length: int
) -> bytes:
    """source [B, S], lengths [B] -> the decoder's first state, and the memory that steps look back on."""
    decoder = model.decoder
    run = _layers_of(model.encoder, graph.profile)
    if run is add_scanned_layers or decoder.attention is not None:
        add_own(graph)
    encoded = run(graph, model.encoder, decoder.attention is not None)
    bound = max_source_length if "i" in model.encoder.recurrent.cell.gates else 1
    _add_first_state(graph, model, encoded, bound)
    if decoder.input_feeding:
        add_zeros(graph, np.full((1, architecture.hidden_size), graph.zero), "fed")
    if decoder.attention is not None:
        add_memory(graph, decoder.attention, encoded.outputs)
    elif decoder.every_step:
        graph.unit("Identity", [encoded.states[-1][0]], "summary")
    return graph.finish(encoder_graph(architecture, graph.profile))


def has_quantised_layers(encoder: Encoder) -> bool:
    """Whether the encoder's layers compute in whole numbers in int8: only LSTMs have such an operator."""
    return encoder.recurrent.cell.states == 2


def _layers_of(encoder: Encoder, profile: str) -> Callable[[Float32, Encoder, bool], Encoded]:
    """What adds the layers: operators, in whole numbers or float32; steps where CUDA has no operator."""
    if profile == "int8" and has_quantised_layers(encoder):
        return add_quantised_layers
    return add_scanned_layers if encoder.recurrent.cell.peepholes else add_layers


def _add_first_state(graph: Float32, model: Seq2Seq, encoded: Encoded, bound: float) -> None:
    """h and c of each layer of the decoder; `bound` is the largest that a c of the encoder can be.

    A c is f c + i g: no larger than the source is long, or than 1 where i = 1 - f.
    """
    bridge = model.bridge
    if bridge is None:
        for layer, (h, *c) in enumerate(encoded.states):
            graph.unit("Identity", [h], f"h_{layer}")
            for state in c:
                graph.add("Identity", [state], f"c_{layer}")
        return
    for layer, picked in enumerate(bridge.picked):
        h, *c = encoded.states[picked]
        _, unit = graph.unit("Identity", [h], f"read_h_{layer}")
        sums = graph.linear([unit], bridge.hidden[layer], f"bridge_h_{layer}")  # type: ignore[arg-type]
        graph.unit("Tanh", [sums], f"h_{layer}")
        for state in c:
            graph.bounded_linear(state, bound, bridge.cell[layer], f"c_{layer}")  # type: ignore[arg-type]

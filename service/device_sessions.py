"""A device's graphs: those of a bundle's profile, and the small ones that move rows beside them.

Knows nothing of rows in use or of who holds them.
"""

import itertools

import msgspec

from bundle.reader import Bundle
from service.providers import open_session, ort
from service.row_graphs import copy_graph, enter_graph, pick_graph, place_graph, resize_graph

NO_GRAPH = "-1"  # the id under which ONNX Runtime neither captures nor replays
TF32_TOLERANCE = 0.05  # of a token's log-probability; fp16, which rounds as much, needs a fifth of it


class DeviceSessions:
    """The graphs of a profile on a device. Engines beside each other share them, and the graph ids."""

    def __init__(self, bundle: Bundle, profile: str, device: str, threads: int, tf32: bool = False) -> None:
        found = bundle.manifest.profile(profile)
        if tf32:
            loosest = max(found.score_tolerance, TF32_TOLERANCE)
            found = msgspec.structs.replace(found, score_tolerance=loosest)
        encoder, decoder = found.encoder, found.decoder
        written = {tensor.name for tensor in decoder.outputs}
        self.profile = found
        self.encoded = [tensor.name for tensor in encoder.outputs]
        self.states = [t for t in encoder.outputs if f"next_{t.name}" in written]
        self.memory = [t for t in encoder.outputs if t not in self.states]
        self.wide_outputs = [t for t in decoder.outputs if "S" in t.shape]
        kept = {"next_token", *(f"next_{t.name}" for t in self.states)}
        self.outputs = [t for t in decoder.outputs if t.name not in kept and t not in self.wide_outputs]

        def session(model: bytes, name: str, captures: bool = False) -> ort.InferenceSession:
            return open_session(model, name, device, threads, captures, tf32)

        tops = [t for t in self.outputs if t.name.startswith("top_")]
        every = [t for t in self.outputs if t.name == "log_probs"]
        wide = [t for t in self.memory if "S" in t.shape]
        self.encoder = session(bundle.graphs[encoder.file], encoder.file)
        self.decoder = session(bundle.graphs[decoder.file], decoder.file, captures=True)
        self.enter = session(enter_graph([*self.states, *self.memory]), "enter")
        self.place = session(place_graph(self.states), "place")
        self.tell = session(place_graph([]), "tell")
        self.tops = session(pick_graph(tops), "tops")
        self.every = session(pick_graph(every), "every")
        self.copy = session(copy_graph(self.memory), "copy") if self.memory else None
        self.resize = session(resize_graph(wide), "resize") if wide else None
        self.align = session(pick_graph(self.wide_outputs), "align") if self.wide_outputs else None
        self.graph_ids = itertools.count(1)


class BoundStep:
    """A decoder step for one number of rows, set of state and width of memory, at fixed addresses."""

    def __init__(self, binding: ort.IOBinding, graph_id: int) -> None:
        self.binding = binding
        self.options = run_options(str(graph_id))
        self.captured = False


def run_options(graph_id: str) -> ort.RunOptions:
    """Options of a run under a graph's id."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph_id)
    return options

"""The end of a decoder graph: from logits to what the service chooses from."""

import numpy as np

from bundle.manifest import Vocabulary, candidates
from export.onnx_graph import GraphBuilder


def add_selection(graph: GraphBuilder, logits: str, vocabulary: Vocabulary) -> None:
    """logits [R, V] -> the best token [R], every log-probability [R, V], and the K best of those [R, K].

    Equal ones come in order of their ids. Greedy's choice is made on the logits: two of them may round to one
    log-probability.
    """
    graph.add("ArgMax", [logits], "next_token", axis=1, keepdims=0)
    graph.add("LogSoftmax", [logits], "log_probs", axis=1)
    count = graph.integers("candidates", candidates(vocabulary))
    graph.add_many("TopK", ["log_probs", count], ["top_scores", "top_tokens"], axis=1)
    first = graph.weight("first", np.array(0, np.int64))
    graph.add("Gather", ["top_scores", first], "next_score", axis=1)

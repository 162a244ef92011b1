"""Draws tokens, reproducibly. Knows nothing of sequences and steps.

The random number of a position is a hash of the seed and the position: it is the same whatever else is drawn,
in any order. SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) is such a
hash by design: its n-th output mixes seed + n * GOLDEN. It takes a microsecond in plain Python, a
thirtieth of what making a numpy generator at each step would, and gives the same bits everywhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.decoding.constraints import Ranking, best_ids
from service.options import Sampling

GOLDEN = 0x9E3779B97F4A7C15  # odd, 2**64 by the golden ratio
MASK = 2**64 - 1


def uniform(seed: Any, position: Any) -> Any:
    """The random number of a position, in [0, 1), with 53 bits. Both are ints, or arrays of uint64."""
    z = (seed + (position + 1) * GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53


def draw(ranking: Ranking, sampling: Sampling, position: int) -> int | None:
    """A token with the probability that `ranking` [V] gives it among those that may come; None: none may.

    What is left after the constraints, the temperature, top_k and top_p is renormalised.
    """
    ids = best_ids(ranking, sampling.top_k or ranking.size)
    if not ids.size:
        return None
    weights = np.exp((ranking[ids] - ranking[ids[0]]) / sampling.temperature)  # best first
    sums = np.cumsum(weights)
    kept = int(np.searchsorted(sums, sampling.top_p * sums[-1])) + 1
    sums = sums[:kept]
    place = int(np.searchsorted(sums, uniform(sampling.seed, position) * sums[-1], side="right"))
    return int(ids[min(place, sums.size - 1)])


def draw_many(
    rankings: npt.NDArray[np.float64], samplings: Sequence[Sampling], positions: Sequence[int]
) -> npt.NDArray[np.intp]:
    """What `draw` gives for each row of `rankings` [k, V], bit for bit; in each, some token may come.

    What may not come is last, and adds nothing: the sums are those of `draw`, in the same order.
    """
    rows, size = np.arange(len(rankings)), rankings.shape[1]
    seeds = np.array([how.seed for how in samplings], np.uint64)
    temperatures = np.array([how.temperature for how in samplings])
    most = np.array([how.top_k or size for how in samplings])
    shares = np.array([how.top_p for how in samplings])

    costs = -rankings
    best_first = np.sort(costs, axis=1)[:, : most.max()]  # [k, K], as what follows
    weights = np.exp((best_first[:, :1] - best_first) / temperatures[:, None])
    weights[np.arange(weights.shape[1]) >= most[:, None]] = 0
    sums = np.cumsum(weights, axis=1)
    last = (sums >= (shares * sums[:, -1])[:, None]).argmax(axis=1)  # that is kept
    points = uniform(seeds, np.array(positions, np.uint64)) * sums[rows, last]
    places = np.minimum((sums <= points[:, None]).sum(axis=1), last)

    drawn = best_first[rows, places, None]  # [k, 1]
    before = places - (best_first < drawn).sum(axis=1)  # how many of those that cost the same
    tokens: npt.NDArray[np.intp] = (np.cumsum(costs == drawn, axis=1) > before[:, None]).argmax(axis=1)
    return tokens

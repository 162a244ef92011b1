"""Python's collector of garbage, in processes that serve."""

import gc

YOUNG_OBJECTS = 4000  # where hundreds of calls are inside, hundreds of objects are no news


def settle() -> None:
    """What is here now stays: the collector need not look at it again, nor at what comes so often."""
    gc.collect()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.freeze()

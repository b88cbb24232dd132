"""How the garbage collector looks through a program that serves: seldom, and not at what was there from the start."""

import gc

YOUNG_OBJECTS, YOUNG_SEARCHES, OLD_SEARCHES = 20_000, 20, 50
"""After so many new objects the young are searched for cycles, after so many searches the middle-aged, after so many of those all."""


def calm_collector() -> None:
    """Let the garbage collector look, and seldom, at what requests leave behind, and no more at what was loaded at the start.

    Objects here end by their reference counts; each full search for cycles would go through the whole program and hold every payment in
    flight for some 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_SEARCHES, OLD_SEARCHES)

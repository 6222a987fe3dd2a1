"""The rounds of a search: which points are drawn, and how far each of them is trained."""

from collections.abc import Callable

import numpy as np

from purenet.sweep.config import SweepConfig, reach
from purenet.sweep.state import SweepState


def follow(
    request: SweepConfig,
    state: SweepState,
    draw: Callable[[int], None],
    train: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Carry out the rounds of a search, until it ends.

    `draw(n)` brings the number of points to n. `train(targets, racing)` trains every point to its
    target; those that are `racing` may have to resume later.
    """
    source, rounds, target_epochs, _, given = request.start
    before = np.zeros(request.trials, int)
    reached = before
    scored = 0  # points whose scores the sampler has been told, or need not be
    while True:
        draw(reach(target_epochs))
        train(target_epochs, target_epochs > before)
        before, reached = target_epochs, np.maximum(reached, target_epochs)
        # a folder may hold more scores than this point of the search has reached: hide them
        asked = np.arange(request.epochs) < reached[:, None]
        scores = np.where(asked, state.scores(), np.nan)
        drawn = len(state.points.group)
        if given and not scored:
            if hasattr(source, "tell_given"):
                source.tell_given(given, scores[: len(given)])
            scored = len(given)
        if scored < drawn:
            source.tell(np.arange(scored, drawn) - len(given), scores[scored:drawn])
            scored = drawn
        try:
            target_epochs = rounds.send(scores)
        except StopIteration:
            return

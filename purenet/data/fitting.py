"""Whether a training and the streams that it is given belong together."""

from purenet.core.types import PyTree, Trainable
from purenet.core.validate import require
from purenet.data.streams import Stream, as_stream


def checked_streams(caller: str, trainable: Trainable, parts: dict[str, PyTree]) -> dict:
    """The parts of the data, of which one or more are streams; the training data becomes one too.

    Raises TypeError for a training that takes no minibatches, ValueError for streams that do not
    fit it.
    """
    size = trainable.batch_size
    if trainable.steps is None or size is None:
        raise TypeError(
            f"{caller}: the data is streamed, but this Trainable has no `steps(state, chunk)` and "
            "`batch_size`; that of supervised(...) has, where batches are shuffled and of a plain "
            "size."
        )
    train = parts["train"]
    streams = {"train": as_stream(train)}
    if "validation" in parts:
        validation = streams["validation"] = parts["validation"]
        if isinstance(validation, Stream):
            _check_validation(caller, trainable, validation)
    for part in streams.values():
        if isinstance(part, Stream):
            part.check(caller, size)
    return streams


def _check_validation(caller: str, trainable: Trainable, part: Stream) -> None:
    require(
        trainable.predict is not None and trainable.score is not None,
        f"{caller}: the validation data is streamed, but this Trainable has no `predict` and "
        "`score`; give it both, or validation data in memory.",
        TypeError,
    )
    pair = isinstance(part.example, (tuple, list)) and len(part.example) == 2
    text = f"{caller}: the validation data is {part}, but a stream of pairs (x, t) is expected."
    require(pair, text)

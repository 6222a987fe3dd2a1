"""States of trials as arrays of one file."""

import io

import numpy as np

from purenet.sweep.engine.records import TrialCheckpoint


def pack_records(groups: list[dict[int, TrialCheckpoint]]) -> dict[str, np.ndarray]:
    """The checkpoints of each group as arrays, one row per trial."""
    packed: dict[str, np.ndarray] = {}
    for g, records in enumerate(groups):
        if not records:
            continue
        packed[f"{g} rows"] = np.array(list(records))
        packed[f"{g} epochs"] = np.array([record.epochs for record in records.values()])
        for kind in ("numbers", "state"):
            leaves = zip(*(getattr(record, kind) for record in records.values()), strict=True)
            packed |= {f"{g} {kind} {i}": _plain_bits(leaf) for i, leaf in enumerate(leaves)}
    return packed


def _plain_bits(leaf) -> np.ndarray:
    """Stacked; dtypes that NumPy lacks (bfloat16) become integers of their size."""
    stacked = np.stack(leaf)
    return stacked.view(stored_dtype(stacked.dtype))


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in the file for an array of `dtype`."""
    return dtype if dtype.kind in "biufc" else np.dtype(f"u{dtype.itemsize}")


def unpack_records(packed: dict[str, np.ndarray], g: int) -> dict[int, TrialCheckpoint]:
    """The checkpoints of one group. Raises ValueError if the arrays do not belong together."""
    rows, epochs = (packed.get(f"{g} {name}", np.empty(0, int)) for name in ("rows", "epochs"))
    many = [a for name, a in packed.items() if name.startswith((f"{g} numbers ", f"{g} state "))]
    counts = {a.shape[:1] for a in (rows, epochs, *many)}
    kinds = {(a.ndim, a.dtype.kind) for a in (rows, epochs)}
    if len(counts) != 1 or kinds != {(1, "i")} or len(set(rows.tolist())) < len(rows):
        raise ValueError(f"the rows of group {g} do not belong together")

    def rows_of(kind):
        leaves: list[np.ndarray] = []
        while (name := f"{g} {kind} {len(leaves)}") in packed:
            leaves.append(packed[name])
        return zip(*leaves, strict=True) if leaves else iter(lambda: (), None)

    parts = zip(zip(rows, epochs, strict=True), rows_of("numbers"), rows_of("state"), strict=False)
    return {int(row): TrialCheckpoint(n, int(e), list(state)) for (row, e), n, state in parts}


def to_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(payload: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

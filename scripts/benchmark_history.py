"""The ratios of benchmarks over time: one JSON line per run, and a picture of them."""

import datetime
import json
import math
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def record(path, tables):
    """Append the ratios of a run, {table: {row: ratio}}, with the machine and the commit."""
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "ratios": tables,
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def machine():
    """Processor, cores and versions: ratios may be compared where these are the same."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy")},
    }


def processor():
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit():
    """The commit of this repository, with "-dirty" if files differ from it; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def read(path):
    """The recorded runs, oldest first."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return sorted((json.loads(line) for line in lines if line), key=lambda run: run["time"])


def series(runs):
    """{table: {label of a line: [(number of the run, ratio)]}}, machines apart."""
    several = len({described(run["machine"]) for run in runs}) > 1
    found = {}
    for number, run in enumerate(runs):
        place = f" ({described(run['machine'])})" if several else ""
        for table, rows in run["ratios"].items():
            for row, ratio in list(rows.items())[1:]:  # the first row is what the others refer to
                lines = found.setdefault(table, {})
                lines.setdefault(row + place, []).append((number, ratio))
    return found


def described(machine):
    return f"{machine['processor']}, {machine['cores']} cores, JAX {machine['jax']}"


def draw(runs, path):
    """One panel per table: the ratio of each row to the first one, below 1 is faster.

    Raises ValueError if there is nothing to draw.
    """
    from matplotlib.figure import Figure

    tables = series(runs)
    if not tables:
        raise ValueError("the file holds no ratios; run the benchmark with --record first.")
    columns = math.ceil(math.sqrt(len(tables)))
    rows = math.ceil(len(tables) / columns)
    figure = Figure(figsize=(6 * columns, 3.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (table, lines), panel in zip(tables.items(), panels, strict=False):
        for label, points in lines.items():
            panel.plot(*zip(*points, strict=True), marker="o", label=label)
        panel.axhline(1.0, color="0.6", linewidth=0.8)
        panel.set(title=table, ylabel="ratio to the first row", yscale="log")
        panel.set_xticks(range(len(runs)), [run["commit"] or run["time"][:10] for run in runs])
        panel.tick_params("x", rotation=45)
        panel.legend(fontsize="small")
    for panel in list(panels):
        panel.set_axis_off()
    figure.savefig(path, dpi=120)

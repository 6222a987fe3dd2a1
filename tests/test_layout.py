"""How trials lie on devices of either kind; accelerators are told by their platform alone."""

from types import SimpleNamespace

import pytest

from purenet.sweep.engine.layout import cached, layout, shrink

GPU, CPU, TPU = (SimpleNamespace(platform=name) for name in ("gpu", "cpu", "tpu"))


@pytest.mark.parametrize(
    ("trials", "devices", "lanes", "block", "strategy"),
    [
        (40, [CPU, CPU], 20, 1, "loop"),
        (1, [CPU, CPU], 2, 1, "loop"),  # one device, and never a loop of one
        (40, [GPU], 40, 40, "vmap"),
        (1000, [GPU], 1024, 256, "blocks"),
        (10_000, [GPU, GPU], 5120, 256, "blocks"),
        (3, [GPU] * 8, 1, 1, "loop"),
    ],
)
def test_a_cpu_loops_and_an_accelerator_runs_wide_blocks(trials, devices, lanes, block, strategy):
    found = layout(trials, devices)
    assert (found.block, found.strategy) == (block, strategy)
    assert found.lanes == max(lanes, 2 if block == 1 else 1)
    assert len(found.devices) == min(trials, len(devices)) and found.width >= trials


def test_halving_the_lanes_keeps_blocks_wide_for_as_long_as_it_can():
    seen, where = [], layout(1000, [GPU])
    while where is not None:
        seen.append((where.lanes, where.block))
        where = shrink(where)
    assert seen[:4] == [(1024, 256), (512, 256), (256, 256), (128, 128)]
    assert seen[-1] == (2, 1)


@pytest.mark.parametrize("device, lane, lanes, block", [
    (TPU, 520_000, 1024, 128), (TPU, 60_000, 1024, 256), (TPU, 5_200_000, 1024, 128),
    (TPU, 10**9, 1024, 128), (GPU, 520_000, 1024, 256), (CPU, 520_000, 1000, 1),
])  # fmt: skip
def test_a_block_of_a_tpu_has_the_lanes_that_stay_in_its_fast_memory(device, lane, lanes, block):
    assert cached(layout(1000, [device]), lane)[1:] == (lanes, block)
    few = layout(100, [TPU])
    assert cached(few, 10**9) == few  # a single block

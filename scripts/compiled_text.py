"""What a compiled program does, read from its text: kernels, bytes, estimated cycles, collectives.

Loops count as often as they run where the compiler knows that, else once. The bytes of a kernel
are those of its whole operands and results, though it may touch only some of them.
"""

import collections
import re
from typing import NamedTuple

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4,
          "u32": 4, "f64": 8, "s64": 8, "u64": 8}  # fmt: skip
COLLECTIVES = re.compile(
    r"\s(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast|"
    r"ragged-all-to-all)(?:-start)?\("
)
# instructions that move nothing
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all"}
_ARRAY = re.compile(rf"\b({'|'.join(WIDTHS)})\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")


class Work(NamedTuple):
    """What one run of a program costs."""

    kernels: int
    bytes: int
    cycles: int  # the compiler's own estimate; 0 where it has none
    collectives: int
    largest: list[tuple[int, str]]  # (bytes or cycles, name), most first


def work(text: str) -> Work:
    """The work of a program, from `compiled.as_text()`."""
    computations, entry = _computations(text)
    sizes = {
        name: _bytes(result)
        for lines in computations.values()
        for name, result, _, _ in map(_parsed, lines)
        if name
    }
    total: collections.Counter = collections.Counter()
    moves: collections.Counter = collections.Counter()
    efforts: collections.Counter = collections.Counter()

    def visit(computation, times):
        for line in computations.get(computation, ()):
            name, _, kind, rest = _parsed(line)
            if kind == "while":
                body = re.search(r"body=%?([\w.\-]+)", line)[1]
                visit(body, times * (_turns(computations, line) or 1))
            elif kind == "conditional":
                for branch in _branches(line):
                    visit(branch, times)
            elif kind in ("call", "async-start"):
                visit(re.search(r"(?:to_apply|calls)=%?([\w.\-]+)", line)[1], times)
            elif name and kind not in FREE:
                read = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
                moved = sizes[name] + sum(sizes.get(other, 0) for other in read)
                cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
                cycles = int(cycles[1]) if cycles else 0
                total.update(kernels=times, bytes=times * moved, cycles=times * cycles)
                origin = re.search(r'op_name="([^"]*)"', line)
                where = f"{kind} {origin[1][-70:] if origin else name}"
                moves[where] += times * moved
                efforts[where] += times * cycles

    visit(entry, 1)
    parts = efforts if total["cycles"] else moves
    largest = [(count, where) for where, count in parts.most_common(12)]
    collectives = len(COLLECTIVES.findall(text))
    return Work(total["kernels"], total["bytes"], total["cycles"], collectives, largest)


def _parsed(line):
    """(name, type of the result, kind, the rest) of an instruction."""
    found = _INSTRUCTION.match(line)
    return found.groups() if found else ("", "", "", "")


def _bytes(types):
    total = 0
    for kind, dimensions in _ARRAY.findall(types):
        size = WIDTHS[kind]
        for n in filter(None, dimensions.split(",")):
            size *= int(n)
        total += size
    return total


def _computations(text):
    """({computation: its lines}, the name of the first to run)."""
    found, current, entry = {}, None, None
    for line in text.splitlines():
        if line and not line.startswith(" ") and line.rstrip().endswith("{") and "->" in line:
            first, current = re.match(r"(ENTRY )?%?([\w.\-]+)", line).groups()
            found[current] = []
            entry = current if first else entry
        elif current is not None and line.startswith("  "):
            found[current].append(line)
    return found, entry


def _branches(line):
    several = re.search(r"branch_computations=\{([^}]*)\}", line)
    if several:
        return re.findall(r"%([\w.\-]+)", several[1])
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)


def _turns(computations, line):
    """How often a loop runs, None if that is not known: its counter ends at a constant."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
    if known:
        return int(known[1])
    waiting, seen = [re.search(r"condition=%?([\w.\-]+)", line)[1]], []
    while waiting:
        for inner in computations.get(waiting.pop(), ()):
            seen.append(inner)
            waiting += re.findall(r"calls=%?([\w.\-]+)", inner)
    text = "\n".join(seen)
    ends = re.findall(r"s32\[\][^=\n]* constant\((\d+)\)", text)
    compared = re.findall(r"direction=(\w+)", text)
    return int(ends[0]) if len(ends) == 1 and compared == ["LT"] else None

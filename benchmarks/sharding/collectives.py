"""The exchanges of a step between devices, read from its compiled graph."""

import math
import os
import pathlib
import re
from typing import NamedTuple

# Variables of processes whose steps are read afterwards: they make TensorFlow
# write down each step after each compiler pass.
TRACING = {"TF_CPP_VMODULE": "dtensor_mlir_passes=5,bridge_logger=5"}
FOLDER_VARIABLE = "TF_DUMP_GRAPH_PREFIX"

# The pass after which the graph is read: tensors have the shapes of one device
# by then, and exchanges still have their names.
_PASS = "after_CSE"
_OPERATION = re.compile(r'= "tf\.DTensor(All\w+|ReduceScatter)"\(')
_SHAPE = re.compile(r"-> tensor<((?:\d+x)*)(f32|f16|bf16|f64|i32|i64|i1)>")
_RESULT = re.compile(r" -> tensor<((?:\d+x)*)(f32|f16|bf16|f64)>")
_GROUPS = re.compile(r"tensor<\d+x(\d+)xi32>\) ->")
_LAYOUTS = re.compile(r"_layout = #dtensor\.layout<sharding_specs:([\w,]*)")
_BYTES = {"i1": 1, "f16": 2, "bf16": 2, "f32": 4, "i32": 4, "f64": 8, "i64": 8}


class Collective(NamedTuple):
    """One exchange.

    Attributes:
        name: `"AllToAll"`, `"AllGather"`, `"AllReduce"`, `"AllScatter"`, ...
        local_bytes: of what each device has after it.
        num_devices: that exchange with one another.
    """

    name: str
    local_bytes: int
    num_devices: int

    @property
    def bytes_sent(self) -> float:
        """The bytes that a device sends at least: none to itself.

        An all-reduce is a scattered reduction and a gathering. What is
        scattered alone is there already.
        """
        times = {"AllScatter": 0, "AllReduce": 2}.get(self.name, 1)
        share = (self.num_devices - 1) / self.num_devices
        return times * self.local_bytes * share


def read_collectives(
    folder: str | os.PathLike, axis_sizes: dict[str, int]
) -> list[Collective]:
    """Returns the exchanges of the step that was compiled last.

    Args:
        folder: what the environment variable `TF_DUMP_GRAPH_PREFIX` said.
        axis_sizes: mesh axis to number of devices.
    """
    found = []
    for line in _last_step(folder).splitlines():
        match = _OPERATION.search(line)
        if match is None:
            continue
        shape = _SHAPE.search(line, match.end())
        if shape is None:
            raise ValueError(f"An exchange without a shape: {line[:300]}")
        groups = _GROUPS.search(line)
        if groups:
            num_devices = int(groups[1])
        else:
            before, after = (
                {*layout.split(",")} for layout in _LAYOUTS.findall(line)[:2]
            )
            moved = (before ^ after) or (before & after)
            moved.discard("unsharded")
            # An all-to-all moves one mesh axis to another tensor axis, so the
            # sets before and after do not differ: only "expert" is moved like
            # that here.
            num_devices = (
                axis_sizes["expert"]
                if match[1] == "AllToAll"
                else math.prod(axis_sizes[axis] for axis in moved)
            )
        found.append(
            Collective(match[1], _num_bytes(shape[1], shape[2]), num_devices)
        )
    return found


def read_result_bytes(folder: str | os.PathLike) -> int:
    """Returns the bytes of all floats that a device computes in a step.

    As many as it would hold if it forgot nothing.

    Args:
        folder: as for `read_collectives`.
    """
    text = _last_step(folder)
    return sum(_num_bytes(*match) for match in _RESULT.findall(text))


def _num_bytes(shape: str, dtype: str) -> int:
    sizes = [int(size) for size in shape.split("x") if size]
    return math.prod(sizes) * _BYTES[dtype]


def _last_step(folder: str | os.PathLike) -> str:
    steps: dict[str, list[pathlib.Path]] = {}
    for path in pathlib.Path(folder).glob("*.mlir"):
        steps.setdefault(path.name.rsplit(".", 2)[-2], []).append(path)
    if not steps:
        raise ValueError(
            f"No step was written down in {folder}: the process must start "
            f"with {FOLDER_VARIABLE} and {TRACING}."
        )
    last = max(steps.values(), key=lambda group: max(map(_time, group)))
    # The pass runs more than once for a step; its first dump is the one to
    # read.
    chosen = min(path for path in last if _PASS in path.name)
    return chosen.read_text()


def _time(path: pathlib.Path) -> int:
    return path.stat().st_mtime_ns

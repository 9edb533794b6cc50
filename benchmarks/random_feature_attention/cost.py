"""Time and memory of attention, and what they come to."""

import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.shared.report import Report

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
SOFTMAX, SMALL, LARGE = "softmax", "features_128", "features_256"
_HEADS, _FLOAT = 8, 4
# Arrays of the size of the scores that `MultiHeadAttention` holds at once, at
# most: scores and weights, and in training their gradients.
_SCORES = {"forward": 2, "both": 4}
_LARGEST = 12 * 2**30
_COMPARED = 8192
_PROGRAM = "benchmarks.random_feature_attention.time_attention"

Figures = dict[str, dict[int, float]]


def run(*arguments: Any) -> dict[str, float]:
    """Returns the last line of a timing program's output."""
    command = [sys.executable, "-m", _PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def layers_at(length: int, direction: str) -> list[str]:
    """Returns the layers that fit in memory at a length."""
    scores = _SCORES[direction] * _HEADS * length**2 * _FLOAT
    return [SMALL, LARGE] if scores > _LARGEST else [SOFTMAX, SMALL, LARGE]


def measure_times(direction: str, compiled: bool, rounds: int) -> Figures:
    """Returns seconds by layer and length."""
    times: Figures = {SOFTMAX: {}, SMALL: {}, LARGE: {}}
    for length in LENGTHS:
        layers = layers_at(length, direction)
        flags = ["--compiled"] if compiled else []
        # Long lengths get half the rounds: softmax attention is slower there
        # by so much that noise does not matter.
        turns = rounds if length < _COMPARED else max(2, rounds // 2)
        seconds = run(
            *("--length", length, "--direction", direction),
            *("--rounds", turns, "--layers", *layers, *flags),
        )
        for name, value in seconds.items():
            times[name][length] = value
    return times


def measure_memory(direction: str) -> Figures:
    """Returns peak bytes by layer and length."""
    peaks: Figures = {SOFTMAX: {}, SMALL: {}, LARGE: {}}
    for length in LENGTHS[2:]:
        for name in layers_at(length, direction):
            peak = run(
                *("--length", length, "--direction", direction),
                *("--layers", name, "--memory"),
            )
            peaks[name][length] = peak[name]
    return peaks


def exponent(times: dict[int, float], start: int = 4096) -> float:
    """Fits `time ~ length ** exponent` from a length on."""
    lengths = [length for length in times if length >= start]
    logs = np.log([[length, times[length]] for length in lengths])
    return float(np.polyfit(*logs.T, 1)[0])


def cross_over(times: Figures, name: str) -> int | None:
    """Returns the first length from which on a layer beats the peer."""
    ahead = None
    for length, seconds in times[SOFTMAX].items():
        if times[name][length] >= seconds:
            ahead = None
        elif ahead is None:
            ahead = length
    return ahead


def add_times(report: Report, all_times: dict[str, Figures]) -> None:
    """Adds what the times come to."""
    for mode, times in all_times.items():
        for name in (SMALL, LARGE):
            label = f"{mode}_{name}"
            ratio = times[SOFTMAX][_COMPARED] / times[name][_COMPARED]
            by_token = [t / n for n, t in times[name].items() if n >= 4096]
            report.add_figures(
                {
                    f"speedup_{_COMPARED}_{label}": ratio,
                    f"cross_over_{label}": cross_over(times, name),
                    f"time_exponent_{label}": exponent(times[name]),
                    f"time_per_token_spread_{label}": max(by_token)
                    / min(by_token),
                }
            )
    # The claims are about a training step as TensorFlow runs it by default,
    # without XLA.
    step = all_times["both_graph"]
    speedup = step[SOFTMAX][_COMPARED] / step[SMALL][_COMPARED]
    report.add_claim(f"speedup_{_COMPARED}", speedup, 10.0, ">=")
    # This exponent is 15 % more time for each token over a factor of 8 in
    # length.
    report.add_claim("time_exponent", exponent(step[SMALL]), 1.067, "<=")


def add_memory(report: Report, all_peaks: dict[str, Figures]) -> None:
    """Adds what the peaks of memory come to."""
    for direction, peaks in all_peaks.items():
        for name in (SMALL, LARGE):
            ratio = peaks[SOFTMAX][_COMPARED] / peaks[name][_COMPARED]
            label = f"{direction}_{name}"
            report.add_figures(
                {
                    f"memory_ratio_{_COMPARED}_{label}": ratio,
                    f"memory_mib_32768_{label}": peaks[name][32768] / 2**20,
                }
            )
    step = all_peaks["both"]
    ratio = step[SOFTMAX][_COMPARED] / step[SMALL][_COMPARED]
    report.add_claim(f"memory_ratio_{_COMPARED}", ratio, 20.0, ">=")

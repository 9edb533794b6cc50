"""What the embedded model server adds to a request for one word.

```
python -m benchmarks.serving_round_trip [--model DIR] [--json FILE]
```

The same session callable is called directly and through the server over gRPC,
in turns in one process; the difference of the medians is the overhead. The
model is the one that `make demo` pushed, or any SavedModel whose default
signature takes words.
"""

import argparse
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from benchmarks.alternating import median_milliseconds
from benchmarks.bare_grpc import behind_bare_grpc
from benchmarks.report import Report
from keras_moe import serving
from keras_moe.serving.signature import Signature

PUSHED = pathlib.Path("build/demo/serving/g2p")
TARGET_MS = 1.0
_NAME = "model"
_LOAD_SECONDS = 120


def measure(model: pathlib.Path, word: str, rounds: int) -> Report:
    """Times one model.

    Args:
        model: folder of a SavedModel.
        word: what to ask for.
        rounds: requests of each kind.

    Returns:
        The report, with the claim `grpc_overhead_ms`.
    """
    with tempfile.TemporaryDirectory() as base:
        # The server wants a folder of versions, whatever the model's is named.
        pathlib.Path(base, "1").symlink_to(model.resolve())
        with serving.Server(_NAME, base) as server:
            server.wait_until_available(_LOAD_SECONDS)
            times = _time(server, word, rounds)
    report = Report("One word, warm: medians over the embedded model server")
    report.add_figures(
        {
            "model": str(model),
            "rounds": rounds,
            # On a busy machine threads wait to be woken, and a request over
            # the wire wakes several.
            "load_average": os.getloadavg()[0],
            **times,
            "rest_overhead_ms": times["rest_ms"] - times["direct_ms"],
            # What of the overhead is gRPC's own, in Python, on this machine.
            "bare_grpc_overhead_ms": times["bare_grpc_ms"] - times["direct_ms"],
        }
    )
    report.add_claim(
        "grpc_overhead_ms",
        times["grpc_ms"] - times["direct_ms"],
        TARGET_MS,
        "<=",
    )
    return report


def _time(server: serving.Server, word: str, rounds: int) -> dict[str, float]:
    servable = server.servable
    signature = servable.signature()
    name = _word_input(signature)
    words = np.array([word.encode()], dtype=object)
    runner = servable.runner(signature, tuple(signature.outputs))
    with serving.Client(
        grpc_port=server.grpc_port,
        rest_port=server.rest_port,
        model_name=_NAME,
    ) as client:
        with behind_bare_grpc(lambda: runner(words)) as bare:
            times = median_milliseconds(
                {
                    "direct_ms": lambda: runner(words),
                    "grpc_ms": lambda: client.predict({name: words}),
                    "bare_grpc_ms": bare,
                },
                rounds,
            )
        # Apart, not to disturb what the claim is about.
        times |= median_milliseconds(
            {"rest_ms": lambda: client.predict_rest({name: words})},
            max(1, rounds // 5),
        )
    return times


def _word_input(signature: Signature) -> str:
    inputs = list(signature.inputs.items())
    if len(inputs) == 1 and inputs[0][1].dtype_name == "string":
        return inputs[0][0]
    found = {name: spec.dtype_name for name, spec in inputs}
    raise SystemExit(
        "The model's default signature must take one string input, the "
        f"words. It takes: {found}"
    )


def _newest_pushed() -> pathlib.Path:
    versions = [
        path
        for path in PUSHED.glob("*")
        if path.name.isdigit() and (path / "saved_model.pb").is_file()
    ]
    if not versions:
        raise SystemExit(
            f"There is no model under {PUSHED}: run `make demo` first, or "
            "name a SavedModel with --model."
        )
    return max(versions, key=lambda path: int(path.name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when the claim does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_round_trip"
    )
    parser.add_argument("--model", type=pathlib.Path, help="a SavedModel")
    parser.add_argument("--word", default="pronunciation")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    model = options.model or _newest_pushed()
    if not (model / "saved_model.pb").is_file():
        raise SystemExit(f"--model must be a SavedModel. Received: {model}")
    report = measure(model, options.word, options.rounds)
    report.show()
    if options.json:
        report.write(options.json)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())

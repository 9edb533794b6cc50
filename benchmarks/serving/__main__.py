"""The embedded model server under load, under change and under attack.

```
python -m benchmarks.serving [--seconds 60] [--json FILE]
```

The server runs in a process of its own, on loopback, and this one asks:

- one word at a time, over gRPC and REST, in turns with the same session
  callable called directly: what the server adds;
- 1, 8 and 32 clients at once, with batching and without it;
- for `--seconds`, while a version is pushed every `--swap-seconds`, old ones
  are removed, and labels are asked: each answer must be that of a version;
- 32 clients over gRPC and 32 over REST at once, while a version is loaded: the
  share of each, and how long the version takes;
- malformed requests: none may be answered, and the server must not mind.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.serving.measure import measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes; gives 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="of swaps")
    add("--swap-seconds", type=float, default=10.0)
    add("--load-seconds", type=float, default=8.0, help="for each load")
    add("--rounds", type=int, default=1000, help="of the overhead")
    add("--malformed", type=int, default=10_000, help="requests")
    add("--seed", type=int, default=0)
    add("--json", type=pathlib.Path, help="file to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options, pathlib.Path(folder))
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())

"""The whole way, from WordNet to a served search.

    python -m pipelines.search.demo

Prepares the data, runs the pipeline, serves what was pushed on the loopback
interface, asks for words by their meaning, and writes `report.json`. A second
run takes everything from the cache.
"""

import dataclasses
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_moe.orchestration import Outcome
from keras_moe.orchestration import ask_both_ways
from keras_moe.orchestration import demo_command
from keras_moe.orchestration import hash_position
from keras_moe.orchestration import read_records
from keras_moe.orchestration import served
from pipelines.search.configs import COMMAND_LINE
from pipelines.search.configs import PipelineConfig
from pipelines.search.evaluation import MRR
from pipelines.search.evaluation import RECALL
from pipelines.search.local_runner import RUNNER
from pipelines.search.modules.features import GLOSS
from pipelines.search.modules.features import OK
from pipelines.search.modules.features import QUERY
from pipelines.search.modules.features import SYNSET

_SHOWN = 3
_TEST_QUERIES = 5
_TIMED = 100
# No gloss of WordNet says it so. The last gets a status, and no answer.
_OWN_QUERIES = (
    "a building where books are kept",
    "the capital of France",
    "a person who writes novels",
    "a ?",
)
_CURLED = "a shop that sells meat"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model server found for a query.

    Attributes:
        query: What was asked.
        identifiers: The best, first.
        status: The server's remark on the query.
        expected: The synset whose gloss it is; `None` for other queries.
        rank: Of that synset among all that were returned; 0 if it is not.
    """

    query: str
    identifiers: tuple[str, ...]
    status: str
    expected: str | None = None
    rank: int | None = None


def show(
    config: PipelineConfig, outcome: Outcome, console: Console
) -> dict[str, Any]:
    """Asks the search that was pushed.

    Args:
        config: The configuration.
        outcome: The run's.
        console: Where results go.

    Returns:
        What `report.json` holds.
    """
    records = outcome.prepared.records("test")
    glosses = {
        each[GLOSS][0]: each[SYNSET][0] for each in read_records(records)
    }
    answers, milliseconds, curled = ask(config, glosses, console)
    recall = json.loads(
        outcome.run_of("IndexBuilder")
        .artifact("report")
        .custom_properties["recall"]
        .string_value
    )
    report = {
        "mrr": outcome.metrics[MRR],
        "recall": outcome.metrics[RECALL],
        "index": recall,
        "milliseconds": milliseconds,
        "answers": [dataclasses.asdict(answer) for answer in answers],
        "curled": curled,
    }
    _print(answers, report, config, console)
    return report


def ask(
    config: PipelineConfig, glosses: dict[str, str], console: Console
) -> tuple[list[Answer], float, dict[str, Any]]:
    """Serves the pushed model, and finds words by their meaning.

    Each query goes over gRPC and over REST, and both must agree.

    Args:
        config: The configuration whose model was pushed.
        glosses: Of the test split, with their synsets.
        console: Where the line for `curl` goes.

    Returns:
        The answers, the median time of a request of one query over gRPC, in
        milliseconds, and what `curl` was answered.
    """
    # Ordered by a hash: the queries do not change from run to run.
    ordered = sorted(glosses, key=lambda gloss: hash_position(gloss, "shown:"))
    asked = [*ordered[:_TEST_QUERIES], *_OWN_QUERIES]
    request = {QUERY: asked, "k": config.index.max_k}
    with served(config) as (server, client):
        outputs = ask_both_ways(
            client, request, ["identifiers", "status"], "search"
        )
        seconds = []
        for gloss in ordered[:_TIMED]:
            began = time.perf_counter()
            client.predict({QUERY: [gloss]})
            seconds.append(time.perf_counter() - began)
        curled = _curl(server.rest_port, config.model_name, console)
    answers = []
    for query, row, status in zip(
        asked, outputs["identifiers"], outputs["status"], strict=True
    ):
        names = tuple(name.decode() for name in row if name)
        expected = glosses.get(query)
        rank = names.index(expected) + 1 if expected in names else 0
        answers.append(
            Answer(
                query,
                names[:_SHOWN],
                status.decode(),
                expected,
                None if expected is None else rank,
            )
        )
    return answers, 1000 * statistics.median(seconds), curled


def _curl(port: int, model_name: str, console: Console) -> dict[str, Any]:
    """Prints a line that finds a word by its meaning, and tries it."""
    body = json.dumps(
        {"signature_name": "search", "inputs": {QUERY: [_CURLED], "k": _SHOWN}}
    )
    url = f"http://127.0.0.1:{port}/v1/models/{model_name}:predict"
    command = ["curl", "-s", "-d", body, url]
    console.print(shlex.join(command), soft_wrap=True, style="bold")
    if shutil.which("curl") is None:
        with urllib.request.urlopen(url, body.encode()) as response:
            said = response.read()
    else:
        said = subprocess.run(command, check=True, capture_output=True).stdout
    answer = json.loads(said)["outputs"]
    console.print(json.dumps(answer), soft_wrap=True)
    return answer


def _print(
    answers: list[Answer],
    report: dict[str, Any],
    config: PipelineConfig,
    console: Console,
) -> None:
    table = Table(title="Words found by their meaning, over gRPC and REST")
    for column in ("query", "found", "wanted", "rank"):
        table.add_column(column, overflow="fold")
    for answer in answers:
        found = "\n".join(answer.identifiers)
        if answer.status != OK:
            found = f"[yellow]{answer.status}[/]"
        table.add_row(
            answer.query,
            found,
            answer.expected or "",
            "" if answer.rank is None else str(answer.rank or "-"),
        )
    console.print(table)
    index = report["index"]
    k = config.index.k
    console.print(
        f"Of the test glosses, the served search finds {report['recall']:.1%} "
        f"among its best {k} of {index['candidates']:,} synsets; mean "
        f"reciprocal rank {report['mrr']:.3f}\n"
        f"The index finds at least {index['certified_recall']:.1%} of what an "
        f"exact search finds (recall@{index['k']}, confidence "
        f"{index['confidence_level']:.0%}; measured "
        f"{index['measured_recall']:.1%}), and reads "
        f"{index['bytes_per_query'] / 2**20:.1f} MiB a query\n"
        f"Median latency of one query {report['milliseconds']:.1f} ms\n"
        f"To serve it on: python -m keras_moe.serving.server "
        f"--model_name={config.model_name} "
        f"--model_base_path={config.serving_dir} --rest_api_port=8501",
        soft_wrap=True,
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the demo as the flags say; returns the exit code."""
    prog = "python -m pipelines.search.demo"
    return demo_command(RUNNER, show, COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

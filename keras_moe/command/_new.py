"""`keras-moe new`: a project that trains, certifies, pushes and serves."""

import json
import pathlib
from typing import Annotated
from typing import Any

import typer
from rich.console import Console


def new(
    name: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="NAME",
            help="The project, and its folder, which must be new.",
        ),
    ],
    data: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Pairs of texts, in the columns source and target; by "
            "default, numbers and their words.",
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search", help="Find the target of a source among all targets."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON.")
    ] = False,
) -> None:
    """Write a project: a TFX pipeline on pairs of texts, and what serves it."""
    console = Console(stderr=True)
    try:
        done = _write(name, data, search)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if as_json:
            typer.echo(json.dumps({"error": str(error)}))
        else:
            console.print("[red]Nothing was written.[/]", end=" ")
            console.print(
                str(error), markup=False, highlight=False, soft_wrap=True
            )
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(done))
    else:
        _report(name, done)


def _write(
    folder: pathlib.Path, data: pathlib.Path | None, search: bool
) -> dict[str, Any]:
    # Imported late: `--help` need not wait for TensorFlow.
    from keras_moe.command._project_files import check_name
    from keras_moe.command._project_files import project_files
    from keras_moe.command._project_files import write_project
    from keras_moe.command._sample_pairs import sample_pairs

    check_name(folder)
    from keras_moe.command._project_settings import settings_of
    from keras_moe.orchestration import Pairs
    from keras_moe.orchestration import read_pairs

    pairs = Pairs(sample_pairs(), ())
    if data is not None:
        pairs = read_pairs(data, unique_targets=search)
    settings = settings_of(pairs.targets, search)
    kind = "search" if search else "text_to_text"
    files = project_files(folder.name, kind, pairs.targets, settings)
    write_project(folder, files)
    return {
        "project": str(folder),
        "files": list(files),
        "pairs": len(pairs.targets),
        "notes": list(pairs.notes),
        "settings": settings,
    }


def _report(folder: pathlib.Path, done: dict[str, Any]) -> None:
    from keras_moe.command._answers import in_words

    console = Console(highlight=False, soft_wrap=True)
    for note in done["notes"]:
        console.print(f"[yellow]{note}[/]")
    console.print(
        f"{len(done['files'])} files in {folder}, {done['pairs']:,} pairs."
    )
    settings = done["settings"]
    if "source_unit" in settings:
        console.print(
            f"Sources are read by {settings['source_unit']}, targets written "
            f"by {settings['target_unit']}: see config.yaml."
        )
        answer = in_words(settings["constant_answer"])
        console.print(
            f'To answer all with "{answer}" has an error rate of '
            f"{settings['max_error_rate']}; a worse model is not pushed.",
            markup=False,
        )
        console.print(
            f"A run takes about {settings['minutes']} minutes on two quiet "
            f"cores: {settings['steps']:,} updates, no fewer than "
            f"{settings['min_steps']:,} where others use them."
        )
    console.print(f"Go on with: cd {folder} && make run")

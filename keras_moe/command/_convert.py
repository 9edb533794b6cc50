"""`keras-moe convert`: checkpoints of others into ours, and back."""

import json
import pathlib
from collections import Counter
from typing import Annotated
from typing import Any

import keras
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from keras_moe import conversion
from keras_moe.command._answers import AsJson
from keras_moe.command._answers import errors_in_one_line
from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig

_NUMBERS = str.maketrans("0123456789", "#" * 10)


def convert(
    source: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="SRC",
            help="A directory of Hugging Face's or T5X's, a `.keras` file, "
            "or the prefix of a checkpoint of mesh-tensorflow.",
        ),
    ],
    target: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="DST",
            help="A `.keras` file, or a new directory for Hugging Face's.",
        ),
    ],
    config: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="JSON with the fields of SwitchTransformerConfig, which "
            "mesh-tensorflow's checkpoints lack, and T5X's in part."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Such as bfloat16; float32 unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a checkpoint of Switch Transformers or T5."""
    with errors_in_one_line("Not converted.", as_json) as console:
        _check_target(target)
        used: dict[str, tuple[str, ...]] = {}
        with Progress(console=console, disable=as_json) as bar:
            task = bar.add_task("weights", total=None)

            def progress(name: str, sources: tuple[str, ...]) -> None:
                used[name] = sources
                bar.update(task, advance=1)

            model = _read(source, config, dtype, progress)
            if target.suffix == ".keras":
                model.save(target)
            else:
                # Names of ours on both sides would say nothing.
                known = progress if not used else None
                conversion.save_hugging_face(model, target, progress=known)
            bar.update(task, total=len(used), completed=len(used))
    _report(model, target, used, as_json)


def _check_target(target: pathlib.Path) -> None:
    if target.suffix not in ("", ".keras"):
        raise ValueError(
            "`DST` must end with .keras, or be a directory's name without a "
            f"suffix. Received: {target}."
        )
    if target.exists():
        raise ValueError(f"`DST` must be new. Received: {target}.")
    if not target.parent.is_dir():
        raise ValueError(
            "`DST` must lie in a directory that exists. Received: "
            f"{target.parent}."
        )


def _read(
    source: pathlib.Path,
    config: pathlib.Path | None,
    dtype: str | None,
    progress: Any,
) -> SwitchTransformer:
    is_prefix = source.with_name(source.name + ".index").exists()
    is_t5x = (source / "checkpoint").is_file()
    if config is not None and not is_prefix and not is_t5x:
        raise ValueError(
            "`--config` is for checkpoints of mesh-tensorflow and T5X alone. "
            f"Received it for {source}."
        )
    fields = json.loads(config.read_text("utf-8")) if config else None
    if source.suffix == ".keras":
        if dtype is not None:
            raise ValueError(
                "`--dtype` is for checkpoints of others. Received it for "
                f"{source}, whose model has a dtype of its own."
            )
        model = keras.saving.load_model(source, compile=False)
        if not isinstance(model, SwitchTransformer):
            raise ValueError(
                "`SRC` must hold a SwitchTransformer. Received: "
                f"{type(model).__name__}."
            )
        return model
    if is_t5x:
        return conversion.load_t5x(
            source, fields, dtype=dtype, progress=progress
        )
    if source.is_dir():
        return conversion.load_hugging_face(
            source, dtype=dtype, progress=progress
        )
    if not is_prefix:
        raise ValueError(
            "`SRC` must be a directory, a `.keras` file or the prefix of a "
            f"checkpoint. Received: {source}."
        )
    if fields is None:
        raise ValueError(
            "`--config` must be given for a checkpoint of mesh-tensorflow, "
            "which does not say its sizes."
        )
    return conversion.load_mesh_tensorflow(
        source,
        SwitchTransformerConfig(**fields),
        dtype=dtype,
        progress=progress,
    )


def _report(
    model: SwitchTransformer,
    target: pathlib.Path,
    used: dict[str, tuple[str, ...]],
    as_json: bool,
) -> None:
    """Shows what went where, one line for all blocks and experts alike."""
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "target": str(target),
                    "config": model.config.to_dict(),
                    "weights": used,
                }
            )
        )
        return
    tensors: Counter[tuple[str, str]] = Counter()
    weights: Counter[tuple[str, str]] = Counter()
    for name, sources in used.items():
        kind = _pattern(sources[0]), _pattern(name)
        tensors[kind] += len(sources)
        weights[kind] += 1
    table = Table("tensors", "names there", "weights", "names here")
    for column in table.columns:
        column.overflow = "fold"
    for kind, count in weights.items():
        table.add_row(str(tensors[kind]), kind[0], str(count), kind[1])
    console = Console()
    console.print(table)
    console.print(
        f"{tensors.total()} tensors, {len(used)} weights of "
        f"{model.count_params():,} parameters: {target}",
        highlight=False,
        soft_wrap=True,
    )


def _pattern(name: str) -> str:
    """Returns a name with one sign for all numbers of blocks and experts."""
    return name.translate(_NUMBERS).replace("##", "#").replace("##", "#")

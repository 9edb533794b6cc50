"""`keras-moe plot`: the pictures of `keras_moe.visualization`, from files."""

import enum
import inspect
import json
import pathlib
from collections.abc import Callable
from typing import Annotated
from typing import Any

import numpy as np
import typer

from keras_moe import visualization
from keras_moe.calibration import Certificate
from keras_moe.command._answers import AsJson
from keras_moe.command._answers import errors_in_one_line
from keras_moe.command._answers import show
from keras_moe.retrieval._tuned_index import read_tuning
from keras_moe.visualization import LayerLoads
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import save_png
from keras_moe.visualization._layer_loads import LOAD_KEY

_DPI = 150.0


class Picture(enum.StrEnum):
    """What can be drawn."""

    RISK_VERSUS_SPEED = "risk_versus_speed"
    EXPERT_LOAD = "expert_load"
    EXIT_DEPTH = "exit_depth"
    FEATURE_CURVE = "feature_curve"


def plot(
    what: Annotated[Picture, typer.Argument(metavar="WHAT", show_choices=True)],
    source: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="SOURCE.json",
            help="risk_versus_speed: what `keras-moe calibrate --json` "
            "printed, a certificate or a tuned index. expert_load: the "
            "history of a training with an ExpertLoadCallback. exit_depth and "
            "feature_curve: their arguments.",
        ),
    ],
    target: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="OUT", help="A .png file, or .html for exit_depth."
        ),
    ],
    title: Annotated[str | None, typer.Option(help="A title.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw risk_versus_speed, expert_load, exit_depth or feature_curve."""
    with errors_in_one_line("Not drawn.", as_json):
        is_page = what == Picture.EXIT_DEPTH and target.suffix == ".html"
        check_target(target, ".html" if is_page else ".png")
        document = _read(source)
        draw, arguments = _drawing_of(what, document, source, is_page)
        _check_fields(draw, arguments, source)
        draw(**arguments, title=title, path=target)
    show({"picture": str(what), "file": str(target)}, as_json)


def _drawing_of(
    what: Picture, document: dict[str, Any], source: pathlib.Path, is_page: bool
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the function that draws, and its arguments."""
    match what:
        case Picture.RISK_VERSUS_SPEED:
            risks = _risks_of(document, source)
            return visualization.plot_risk_versus_speed, risks
        case Picture.EXPERT_LOAD:
            return _draw_loads, {"loads": _loads_of(document, source)}
        case Picture.FEATURE_CURVE:
            return visualization.plot_feature_curve, _curve_of(document)
    if is_page:
        return visualization.exit_depth_html, document
    return visualization.plot_exit_depth, document


def _draw_loads(
    loads: LayerLoads, title: str | None, path: pathlib.Path
) -> None:
    figure = visualization.plot_expert_load(loads, title=title)
    save_png(figure, path, _DPI)


def _read(source: pathlib.Path) -> dict[str, Any]:
    try:
        document = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"`SOURCE.json` must be JSON. Received: {source}: {error}."
        ) from error
    if not isinstance(document, dict):
        raise ValueError(
            "`SOURCE.json` must hold an object. Received: a "
            f"{type(document).__name__} in {source}."
        )
    return document


def _risks_of(document: dict[str, Any], source: pathlib.Path) -> dict[str, Any]:
    """Returns arguments of `plot_risk_versus_speed`."""
    if "speeds" in document:
        # What a calibration says beside them.
        return {
            name: value
            for name, value in document.items()
            if name not in ("certificate", "n")
        }
    if "frontier" in document:
        tuned = read_tuning(source)
        certificate = tuned.certificate
        axes = {
            "speed_label": "bytes per query",
            "risk_label": f"1 - recall@{tuned.k}",
        }
    else:
        certificate = Certificate.load(source, custom_p_values=None)
        if min(certificate.thresholds) <= 0:
            raise ValueError(
                "`SOURCE.json` must have positive thresholds. Received: a "
                f"certificate of {list(certificate.thresholds)} in {source}."
            )
        # A certificate does not say how fast its thresholds are.
        axes = {"speed_label": "threshold"}
    return {
        "thresholds": certificate.thresholds,
        "risks": certificate.risks,
        "speeds": certificate.thresholds,
        "tolerance": certificate.tolerance,
        "certified_threshold": certificate.threshold,
        "p_values": certificate.p_values,
        "confidence_level": certificate.confidence_level,
        **axes,
    }


def _loads_of(document: dict[str, Any], source: pathlib.Path) -> LayerLoads:
    if any(name.endswith(f"/{LOAD_KEY}") for name in document):
        return LayerLoads.from_history(document)
    # As `benchmarks/results/expert_load.json` has them.
    layers = document.values()
    if not document or not all(
        isinstance(each, dict) and {"load", "dropped"} <= set(each)
        for each in layers
    ):
        raise ValueError(
            "`SOURCE.json` must hold the history of a training with an "
            "`ExpertLoadCallback`, or by layer its `load` and what was "
            f"`dropped`. Received: {source} with {sorted(document)[:5]}."
        )
    return LayerLoads(
        names=tuple(document),
        loads=tuple(np.array(each["load"], float) for each in layers),
        dropped=tuple(float(each["dropped"]) for each in layers),
    )


def _curve_of(document: dict[str, Any]) -> dict[str, Any]:
    """Returns arguments of `plot_feature_curve`: JSON has no integer keys."""
    scores = document.get("scores")
    if not isinstance(scores, dict):
        return document
    try:
        return {**document, "scores": {int(n): s for n, s in scores.items()}}
    except ValueError as error:
        raise ValueError(
            "The keys of `scores` must be numbers of features. Received: "
            f"{sorted(scores)[:5]}."
        ) from error


def _check_fields(
    draw: Callable[..., Any], document: dict[str, Any], source: pathlib.Path
) -> None:
    """Raises `ValueError` unless fields are arguments of a picture."""
    arguments = dict(inspect.signature(draw).parameters)
    for own in ("path", "title", "dpi"):
        arguments.pop(own, None)
    needed = {
        name
        for name, argument in arguments.items()
        if argument.default is argument.empty
    }
    missing = sorted(needed - set(document))
    unknown = sorted(set(document) - set(arguments))
    if missing or unknown:
        raise ValueError(
            "`SOURCE.json` must have as fields the arguments of "
            f"`keras_moe.visualization.{draw.__name__}`. Missing: {missing}; "
            f"unknown: {unknown}; in {source}."
        )

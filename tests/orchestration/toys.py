"""Somebody else's pipeline: makes toys, judges them, and pushes the good."""

import pathlib
import sys

from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model
from tfx.types.standard_artifacts import ModelBlessing

from keras_moe import components
from keras_moe.components import GateClosedError
from keras_moe.orchestration import CommandLine
from keras_moe.orchestration import Flag
from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import Section
from keras_moe.orchestration import find_places
from keras_moe.orchestration import make_pipeline


class MakingConfig(Section):
    colour: str = "red"
    how: str = "well"


class ToyConfig(RunConfig):
    pipeline_name = "toys"
    model_name = "train"

    making: MakingConfig = MakingConfig()
    liked: bool = True
    recipe: str | None = None


COMMAND_LINE = CommandLine(
    ToyConfig,
    [
        Flag("colour", "making.colour", help="of the toy"),
        Flag("disliked", "disliked", bool, "an unknown field"),
    ],
)


@component
def Maker(  # noqa: N802 (components are named as classes)
    model: OutputArtifact[Model],
    colour: Parameter[str],
    how: Parameter[str],
    recipe: Parameter[str] = "",
):
    if how == "badly":
        raise TypeError("the wheels came off")
    if how == "in lines":
        raise ValueError("the wheels\ncame [off]\n\nboth")
    if how == "and leaves":
        sys.exit(0)
    if how == "not at all":
        raise GateClosedError("no toys on Sundays")
    folder = pathlib.Path(model.uri, "Format-Serving")
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(colour)


@component
def Judge(  # noqa: N802
    model: InputArtifact[Model],
    blessing: OutputArtifact[ModelBlessing],
    liked: Parameter[int],
):
    blessing.set_int_custom_property("blessed", liked)
    name = "BLESSED" if liked else "NOT_BLESSED"
    pathlib.Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    pathlib.Path(blessing.uri, name).touch()


def create_pipeline(config, prepared=None):
    places = find_places(config)
    recipe = {}
    if config.recipe is not None:
        here = pathlib.Path(__file__).parent
        recipe["recipe"] = places.file(
            "recipe", config.recipe, here.parent, here.name
        )
    maker = Maker(colour=config.making.colour, how=config.making.how, **recipe)
    judge = Judge(model=maker.outputs["model"], liked=int(config.liked))
    pusher = components.Pusher(
        model=maker.outputs["model"],
        model_blessing=judge.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=places.serving_dir
            )
        ),
    )
    return make_pipeline(config, [maker, judge, pusher])

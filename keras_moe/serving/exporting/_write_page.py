"""Writes what the page of a model says."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_moe.atomic_file import atomic_file
from keras_moe.model_folder import PAGE
from keras_moe.serving.exporting._read_signatures import read_model_signatures
from keras_moe.serving.versions._page import check_page
from keras_moe.serving.versions._page import read_pictures


def write_page(
    export_directory: str | os.PathLike, page: Mapping[str, Any]
) -> pathlib.Path:
    """Stores titles and labels for the page on which people try a model.

    The embedded server shows the page at `/`: a form made from the signatures.
    Without this file it shows the names of inputs and outputs. All is
    optional:

    - `title` and `description`: text.
    - `signatures`: names of those that are offered, the first one first; by
      default all.
    - `inputs`: name to `label` and `hint`, texts; `example`, what the field
      holds at first; `rows`, lines of a text that may have several.
    - `outputs`: name to `label`, a text; those that are not named are shown in
      the whole answer alone. `depth` names an output of integers, one for
      each word of this text, after which layer it was decided: words are
      coloured by it. `layers` is how many layers there are. `scores` names an
      output of numbers to be shown beside this one's elements. `hidden_when`
      is a value that is not worth showing, such as `"ok"`.
    - `pictures`: a list of `file`, the name of a PNG, JPEG or WebP in
      `assets.extra` (see `assets` of `keras_moe.serving.export`); `alt`, what
      it shows, for those who do not see it; and a `title`.

    The file appears complete or not at all; one that is there is replaced.

    Args:
        export_directory: folder of a SavedModel.
        page: plain values, as above.

    Returns:
        The path of the file.

    Raises:
        ValueError: there is no SavedModel, or `page` says what cannot be shown,
            or names what the model has not.
        OSError: a picture is not there.

    Example:

    >>> keras_moe.serving.export_endpoints(
    ...     directory,
    ...     {
    ...         "serving_default": (
    ...             lambda x: {"y": 2 * x},
    ...             [tf.TensorSpec([None], name="x")],
    ...         )
    ...     },
    ... )
    >>> path = keras_moe.serving.write_page(
    ...     directory,
    ...     {
    ...         "title": "Doubling",
    ...         "inputs": {"x": {"label": "Number", "example": 21}},
    ...         "outputs": {"y": {"label": "Twice as much"}},
    ...     },
    ... )
    >>> path.name
    'page.json'
    """
    directory = pathlib.Path(export_directory)
    check_page(page, read_model_signatures(directory))
    read_pictures(directory, page)
    path = directory / PAGE
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as partial:
        partial.write_text(
            json.dumps(page, ensure_ascii=False, indent=2) + "\n",
            encoding="utf-8",
        )
    return path

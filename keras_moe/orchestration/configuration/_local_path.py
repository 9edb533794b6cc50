"""A path of this machine, as a type of a configuration's field."""

import pathlib
from typing import Annotated
from typing import Any

import pydantic


def _of_this_machine(path: Any) -> Any:
    if "://" in str(path):
        raise ValueError(
            "must be a path of this machine; `cluster.output` may be a URL"
        )
    return path


def _absolute(path: pathlib.Path) -> pathlib.Path:
    # The path goes into the metadata, which a run from another working
    # directory reads.
    try:
        return path.expanduser().resolve()
    except RuntimeError as error:  # `~` of a user that there is not
        raise ValueError(f"must be a path that exists: {error}") from error


# For fields of a `Section`: made absolute, `~` too; a URL is an error.
LocalPath = Annotated[
    pathlib.Path,
    pydantic.BeforeValidator(_of_this_machine),
    pydantic.AfterValidator(_absolute),
]

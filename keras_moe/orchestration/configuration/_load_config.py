"""Configurations from YAML files, with flags over them."""

import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import pydantic
import yaml

# What a message shows: of a value, of the wording of a rule, and of faults.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlevel = 3
_MAX_RULE = 500
_MAX_FAULTS = 5
_MAX_NAMES = 1000
ConfigT = TypeVar("ConfigT", bound=pydantic.BaseModel)


def load_config(
    config_class: type[ConfigT],
    path: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Reads a configuration from a YAML file.

    Example:
    >>> class ToyConfig(keras_moe.orchestration.RunConfig):
    ...     steps: int = 100
    >>> load_config = keras_moe.orchestration.load_config
    >>> load_config(ToyConfig, overrides={"steps": 20}).steps
    20
    >>> load_config(ToyConfig, overrides={"stpes": 20})
    Traceback (most recent call last):
    ...
    ValueError: the command line: `stpes`: Extra inputs are not permitted. ...

    Args:
        config_class: A pydantic model, such as a subclass of `RunConfig`.
        path: The file; `None` for the defaults.
        overrides: Field, such as `"model.units"`, to value. They count more
            than the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the configuration is not valid; the message names file,
            field and rule.
    """
    document = _document(path)
    for field, value in (overrides or {}).items():
        _set(document, field, value)
    try:
        return config_class.model_validate(document)
    except pydantic.ValidationError as error:
        # Not `from error`: a traceback would write its inputs in full, and a
        # few lines of YAML's aliases make one of gigabytes.
        alone = _faults_of(config_class, path)
        raise ValueError(
            _explain(error, path, overrides or {}, alone)
        ) from None


def parse_yaml(text: str) -> Any:
    """Returns what YAML says; refuses what would hide or multiply names.

    Args:
        text: of a file or of a flag.

    Raises:
        yaml.YAMLError: if the text is not YAML, gives a name twice, nests too
            deeply, or merges (`<<`) more names than any configuration has.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        # Not `from error`: the traceback has a thousand lines.
        raise yaml.YAMLError("it nests too deeply") from None


class _Loader(yaml.SafeLoader):
    """Refuses a name that is given twice: YAML's own takes the last."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges other mappings into one, of few names.

        Nine merges of nine, and so on for nine lines, are 400 million names.
        """
        super().flatten_mapping(node)
        if len(node.value) > _MAX_NAMES:
            raise yaml.constructor.ConstructorError(
                None, None, "too many names are merged", node.start_mark
            )

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        names = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            # A merge, `<<: *other`, may be overridden by names beside it.
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        seen: list[Any] = []
        for name in names:
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{name}` is given twice", node.start_mark
                )
            seen.append(name)
        return super().construct_mapping(node, deep)


def _document(path: str | os.PathLike | None) -> dict[str, Any]:
    return {} if path is None else _read(pathlib.Path(path))


def _faults_of(
    config_class: type[pydantic.BaseModel], path: str | os.PathLike | None
) -> list[tuple[Any, str]]:
    """Returns place and rule of what is wrong without any flag."""
    try:
        config_class.model_validate(_document(path))
    except pydantic.ValidationError as error:
        return [(found["loc"], found["msg"]) for found in error.errors()]
    return []


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"The configuration {path} does not exist.")
    try:
        document = parse_yaml(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not YAML: {reason}.") from error
    if not isinstance(document, dict):
        raise ValueError(
            f"{path} must hold names and values. Received: "
            f"{type(document).__name__}."
        )
    return document


def _set(document: dict[str, Any], field: str, value: Any) -> None:
    *sections, name = field.split(".")
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # the validation that follows names the section
        document = inner
    document[name] = value


def _explain(
    error: pydantic.ValidationError,
    path: str | os.PathLike | None,
    overrides: Mapping[str, Any],
    alone: list[tuple[Any, str]],
) -> str:
    """Returns a sentence for each field that is wrong.

    A flag is to blame for the field that it sets, and for what is right without
    it; not for other fields of its section.
    """
    sentences = []
    faults = error.errors(include_url=False)
    for found in faults[:_MAX_FAULTS]:
        field = ".".join(str(part) for part in found["loc"])
        by_flag = any(f"{field}.".startswith(f"{name}.") for name in overrides)
        by_file = path is not None and not by_flag
        if (found["loc"], found["msg"]) not in alone and overrides:
            by_file = False
        source = str(path) if by_file else "the command line"
        field = field or "all of it"
        rule = found["msg"].removeprefix("Value error, ").rstrip(".")
        if len(rule) > _MAX_RULE:
            rule = f"{rule[:_MAX_RULE]}..."
        text = f"{source}: `{field}`: {rule}"
        if "Received" not in rule:
            text += f". Received: {_SHORT.repr(found['input'])}"
        sentences.append(text + ".")
    if len(faults) > _MAX_FAULTS:
        sentences.append(f"And {len(faults) - _MAX_FAULTS} more.")
    return " ".join(sentences)

"""What a transfer is going to do, checked before any of it is done."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_moe.keras_internals import backend_variable
from keras_moe.types import Shape
from keras_moe.weights._dtypes import dtype_name
from keras_moe.weights._dtypes import may_become
from keras_moe.weights._dtypes import same_integers
from keras_moe.weights._dtypes import to_dtype
from keras_moe.weights._recipe import Recipe
from keras_moe.weights._transfer_report import TransferReport
from keras_moe.weights._transfer_report import list_names

# Shown after names that differ: what they must be, and what they are.
_DIFFERENT = "{name} {shape} {dtype} (is {given_shape} {given_dtype})"


class TransferPlan:
    """A recipe for each weight, and arrays that are known to fit.

    Attributes:
        report: what becomes of each weight.
        is_certain: whether nothing is read, made or rounded on the way, so
            that no value can turn out wrong after these checks.

    Args:
        source: name to array. Shapes and dtypes are looked at; values only of
            integers whose width differs from the target's.
        target: name to variable.
        rule: see `transfer`, as all that follow.
        cast: see there.
        reuse: see there.
        use_all: see there.

    Raises:
        ValueError: naming all that is wrong.
        TypeError: if `rule` returns something else than it may.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        target: Mapping[str, keras.Variable],
        rule: Callable[[str], str | Recipe | None],
        *,
        cast: bool,
        reuse: bool,
        use_all: bool,
    ):
        _check_distinct(target)
        found = {name: _to_recipe(name, rule(name)) for name in target}
        self._target = target
        self._recipes = {name: r for name, r in found.items() if r is not None}
        self._arrays: dict[str, Any] = {}
        users: dict[str, list[str]] = {}
        for name, recipe in self._recipes.items():
            for given in dict.fromkeys(recipe.sources):
                users.setdefault(given, []).append(name)
        for given in users:
            if given in source:
                array = source[given]
                # Lists and plain numbers have no dtype.
                has_dtype = hasattr(array, "dtype")
                self._arrays[given] = array if has_dtype else np.asarray(array)
        unused = [given for given in source if given not in users]
        problems = {
            "Missing": [
                given if given in names else f"{given} (for {names[0]})"
                for given, names in users.items()
                if given not in self._arrays
            ],
            "unexpected": unused if use_all else [],
            "of another shape or dtype": self._differences(cast),
            "used more than once": [
                f"{given} (for {' and '.join(names)})"
                for given, names in users.items()
                if len(names) > 1 and not reuse
            ],
        }
        if any(problems.values()):
            listed = "; ".join(
                f"{problem}: {list_names(names)}"
                for problem, names in problems.items()
            )
            raise ValueError(
                "The source must have what the target needs, and nothing was "
                f"assigned. {listed}."
            )
        self._check_shared()
        self.is_certain = all(
            recipe.make is _same and self._is_at_hand(recipe.sources[0], name)
            for name, recipe in self._recipes.items()
        )
        copied = [n for n, r in self._recipes.items() if r.rearranges]
        merged = [n for n, r in self._recipes.items() if not r.rearranges]
        fresh = [name for name, recipe in found.items() if recipe is None]
        self.report = TransferReport(
            tuple(copied), tuple(merged), tuple(fresh), tuple(unused)
        )

    def values(self) -> Iterator[tuple[keras.Variable, np.ndarray]]:
        """Yields each variable and the value for it; can be used once.

        Raises:
            ValueError: if an array is not what it said it was, or a recipe
                makes something else.
        """
        left = Counter(
            given
            for recipe in self._recipes.values()
            for given in recipe.sources
        )
        read: dict[str, np.ndarray] = {}

        def take(given: str) -> np.ndarray:
            if given not in read:
                read[given] = _read(given, self._arrays.pop(given))
            left[given] -= 1
            # Only arrays that other weights need, too, stay in memory.
            return read[given] if left[given] else read.pop(given)

        for name, recipe in self._recipes.items():
            variable = self._target[name]
            value = np.asarray(recipe.make(*map(take, recipe.sources)))
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"The recipe of {name!r} must make the shape "
                    f"{tuple(variable.shape)}. Received: {value.shape}."
                )
            yield variable, to_dtype(name, value, variable.dtype)

    def _differences(self, cast: bool) -> list[str]:
        """Names weights that would get another shape or dtype."""
        found = []
        for name, recipe in self._recipes.items():
            if any(given not in self._arrays for given in recipe.sources):
                continue
            arrays = [self._arrays[given] for given in recipe.sources]
            variable = self._target[name]
            shape = recipe.shape(*(tuple(array.shape) for array in arrays))
            dtypes = [
                dtype_name(array.dtype)
                for given, array in zip(recipe.sources, arrays, strict=True)
                if not self._has_dtype(given, variable, cast)
            ]
            if tuple(shape) != tuple(variable.shape) or dtypes:
                text = _DIFFERENT.format(
                    name=name,
                    shape=tuple(variable.shape),
                    dtype=dtype_name(variable.dtype),
                    given_shape=tuple(shape),
                    given_dtype=(dtypes or [dtype_name(arrays[0].dtype)])[0],
                )
                if dtypes and may_become(dtypes[0], variable.dtype, cast=True):
                    text += " which `cast=True` would round"
                found.append(text)
        return found

    def _has_dtype(
        self, given: str, variable: keras.Variable, cast: bool
    ) -> bool:
        array = self._arrays[given]
        if may_become(array.dtype, variable.dtype, cast):
            return True
        # Backends count steps, and keep seeds, in integers of other widths.
        fitting = same_integers(array, variable.dtype)
        if fitting is None:
            return False
        self._arrays[given] = fitting
        return True

    def _check_shared(self) -> None:
        """Makes sure that no weight is assigned before it is read."""
        givers = {id(array): given for given, array in self._arrays.items()}
        shared = []
        for name, recipe in self._recipes.items():
            variable = self._target[name]
            # Keras's `Variable.value` is the backend's.
            for own in (variable, backend_variable(variable)):
                given = givers.get(id(own))
                kept = recipe.sources == (given,) and recipe.make is _same
                if given is not None and not kept:
                    shared.append(name)
        if shared:
            raise ValueError(
                "A weight that source and target share must keep its value. "
                f"Received other values for: {list_names(shared)}."
            )

    def _is_at_hand(self, given: str, name: str) -> bool:
        array = self._arrays[given]
        return isinstance(array, np.ndarray | keras.Variable) and (
            dtype_name(array.dtype) == dtype_name(self._target[name].dtype)
        )


def _check_distinct(target: Mapping[str, keras.Variable]) -> None:
    names: dict[int, str] = {}
    for name, variable in target.items():
        other = names.setdefault(id(variable), name)
        if other != name:
            raise ValueError(
                "`target` must name each variable once. Received: "
                f"{other!r} and {name!r} for one."
            )


def _to_recipe(name: str, origin: Any) -> Recipe | None:
    if origin is None or isinstance(origin, Recipe):
        return origin
    if not isinstance(origin, str):
        raise TypeError(
            "`rule` must return a name, a `Recipe` or None. Received: "
            f"{origin!r} for {name!r}."
        )
    return Recipe((origin,), make=_same, shape=_same, rearranges=True)


def _same(value: Any) -> Any:
    return value


def _read(given: str, array: Any) -> np.ndarray:
    shape: Shape = tuple(array.shape)
    value = np.asarray(array)
    if value.shape != shape or value.dtype.name != dtype_name(array.dtype):
        raise ValueError(
            f"The source's {given!r} must be {shape} "
            f"{dtype_name(array.dtype)}, as it says. Received: {value.shape} "
            f"{value.dtype.name}."
        )
    return value

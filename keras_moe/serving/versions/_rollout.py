"""Which versions are served, and which is `stable` and which `canary`.

The decision is one small file in the folder of versions, `rollout.json`. The
embedded model server looks at it as often as at the folder. For the stock
server `--model_config_file=FILE` has each command also write the same decision
as TensorFlow Serving's own configuration.
"""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from tensorflow_serving.config import model_server_config_pb2

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.versions._stock_config import set_labels

STABLE, CANARY = "stable", "canary"
_FILE = "rollout.json"


class Rollout(NamedTuple):
    """What an operator has decided about the versions of a model.

    `canary` is the newest version; `stable` is the promoted one or, as long
    as none was, the one before the newest. Withdrawn versions stay on the
    disk and are not served.

    Attributes:
        stable: the version that was promoted, `None` if none was.
        withdrawn: versions that were rolled back.

    Example:

    >>> from keras_moe.serving import Rollout
    >>> rollout = Rollout()
    >>> rollout.labels([1, 2, 3])
    {'stable': 2, 'canary': 3}
    >>> rollout.roll_back([1, 2, 3]).labels([1, 2, 3])
    {'stable': 2, 'canary': 2}
    >>> rollout.promote([1, 2, 3]).labels([1, 2, 3, 4])
    {'stable': 3, 'canary': 4}
    """

    stable: int | None = None
    withdrawn: frozenset[int] = frozenset()

    @classmethod
    def read(cls, base_path: str | os.PathLike) -> "Rollout":
        """Reads the decision for a folder of versions; none is the default.

        Raises:
            ValueError: the file is damaged.
        """
        path = pathlib.Path(base_path, _FILE)
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        try:
            document = json.loads(text)
            stable, withdrawn = document["stable"], document["withdrawn"]
            numbers = [*withdrawn, *([] if stable is None else [stable])]
            if not all(type(number) is int for number in numbers):
                raise TypeError("versions must be whole numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} must hold `stable`, a version or null, and "
                f"`withdrawn`, a list of versions. Received: {text!r}"
            ) from error
        return cls(stable, frozenset(withdrawn))

    def write(self, base_path: str | os.PathLike) -> None:
        """Writes the decision; it takes effect complete or not at all."""
        document = {"stable": self.stable, "withdrawn": sorted(self.withdrawn)}
        with atomic_file(pathlib.Path(base_path, _FILE)) as partial:
            partial.write_text(json.dumps(document) + "\n")

    def candidates(self, versions: Iterable[int]) -> list[int]:
        """Gives those of `versions` that may be served, newest first."""
        return sorted(set(versions) - self.withdrawn, reverse=True)

    def labels(self, versions: Iterable[int]) -> dict[str, int]:
        """Gives the version of each label; empty where there is no version.

        Args:
            versions: those that are there, or that are loaded.
        """
        candidates = self.candidates(versions)
        if not candidates:
            return {}
        stable = candidates[min(1, len(candidates) - 1)]
        if self.stable in candidates:
            stable = self.stable
        return {STABLE: stable, CANARY: candidates[0]}

    def to_serve(self, versions: Iterable[int], num_versions: int) -> list[int]:
        """Gives the versions to hold in memory, newest first.

        Args:
            versions: those that there are.
            num_versions: how many to hold. The stable version is among them;
                a single one is the newest.
        """
        candidates = self.candidates(versions)
        served = candidates[:num_versions]
        stable = self.labels(candidates).get(STABLE)
        if num_versions > 1 and stable is not None and stable not in served:
            served = [*served[: num_versions - 1], stable]
        return served

    def promote(
        self, versions: Iterable[int], version: int | None = None
    ) -> "Rollout":
        """Makes a version the stable one, by default the newest.

        Raises:
            ValueError: there is no such version.
        """
        candidates = self.candidates(versions)
        if version is None and candidates:
            version = candidates[0]
        if version not in candidates:
            raise ValueError(
                f"`version` must be one of the versions {candidates}. "
                f"Received: version={version}"
            )
        return self._replace(stable=version)

    def roll_back(self, versions: Iterable[int]) -> "Rollout":
        """Withdraws what is newer than the stable version.

        Where the stable version is itself the newest, it is withdrawn, and
        the one before it is stable.

        Raises:
            ValueError: there is nothing to go back to.
        """
        candidates = self.candidates(versions)
        if len(candidates) < 2:
            raise ValueError(
                "There must be a version to go back to. Received: "
                f"versions={candidates}"
            )
        stable = self.labels(candidates)[STABLE]
        if stable == candidates[0]:
            stable = candidates[1]
        bad = {number for number in candidates if number > stable}
        return Rollout(stable, self.withdrawn | bad)

    def restore(self, version: int) -> "Rollout":
        """Takes a withdrawn version in again, as the canary if it is newest.

        Raises:
            ValueError: it was not withdrawn.
        """
        if version not in self.withdrawn:
            raise ValueError(
                f"`version` must be one of the withdrawn "
                f"{sorted(self.withdrawn)}. Received: version={version}"
            )
        return self._replace(withdrawn=self.withdrawn - {version})

    def stock_config(
        self,
        versions: Iterable[int],
        model_name: str,
        base_path: str,
        num_versions: int = 2,
    ) -> model_server_config_pb2.ModelServerConfig:
        """Gives the decision as TensorFlow Serving's configuration.

        A running server may refuse it, since it gives no label to a version
        that is not loaded yet: the command `rollout` writes what leads there.

        Args:
            versions: those that there are.
            model_name: name that requests give.
            base_path: where the stock server finds the folder of versions.
            num_versions: how many to hold.
        """
        versions = list(versions)
        config = model_server_config_pb2.ModelServerConfig()
        model = config.model_config_list.config.add(
            name=model_name, base_path=base_path, model_platform="tensorflow"
        )
        served = self.to_serve(versions, num_versions)
        policy = model.model_version_policy
        newest = sorted(versions, reverse=True)[:num_versions]
        if self.stable is None and served == newest:
            # The next version that is pushed will be loaded by itself.
            policy.latest.num_versions = num_versions
        else:
            # The newest alone would leave out a promoted version at the second
            # push after it.
            policy.specific.versions.extend(served)
        set_labels(model, self.labels(served))
        return config

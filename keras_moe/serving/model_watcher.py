"""Keeps the newest version of a model loaded."""

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import NamedTuple

from keras_moe.serving import status_codes
from keras_moe.serving.servable import Servable

_LOG = logging.getLogger(__name__)
_MAX_VERSION = 2**63 - 1


class VersionState(NamedTuple):
    """Where a version stands, in the words of the ModelService API.

    Attributes:
        state: `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`.
        error_code: `"OK"`, or why the version is not served.
        error_message: details of the error.
    """

    state: str
    error_code: str = "OK"
    error_message: str = ""


class ModelWatcher:
    """Watches a folder of versions and serves the newest that loads.

    - A version is a folder whose name is a number and that holds a
      `saved_model.pb`; without one it is still being written.
    - A new version is loaded and warmed up before it takes over, and the old
      one is closed when the last request on it has been answered.
    - A version that fails to load is reported and left alone until one of its
      files changes; meanwhile the one before it is served.
    - Removing the newest version goes back to the one before it. When none is
      left, the one in memory is kept.

    Args:
        model_name: name that requests give.
        base_path: folder that holds the versions; it may not exist yet.
        poll_seconds: pause between two looks at the folder.
        load: makes a `Servable` of a path and a version.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str | os.PathLike,
        poll_seconds: float = 1.0,
        load: Callable[[pathlib.Path, int], Servable] = Servable,
    ):
        self.model_name = model_name
        self.base_path = pathlib.Path(base_path)
        self._poll_seconds = poll_seconds
        self._load = load
        self._changed = threading.Condition()
        # All below is guarded by `_changed`.
        self._live: Servable | None = None
        self._users: dict[Servable, int] = {}
        self._retired: set[Servable] = set()
        self._states: dict[int, VersionState] = {}
        # What a version's files looked like when it failed. Only the
        # watching thread uses it.
        self._failures: dict[int, tuple] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name=f"watch-{model_name}", daemon=True
        )

    def start(self) -> None:
        """Starts to watch, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching and closes the model once it is idle."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._replace(None)

    @property
    def live(self) -> Servable | None:
        """The version that answers, if there is one."""
        return self._live

    def states(self) -> dict[int, VersionState]:
        """Every version seen so far, newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    def wait_until_available(self, timeout: float) -> bool:
        """Waits for a version to answer; tells whether one does."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._live is not None, timeout
            )

    @contextlib.contextmanager
    def lease(
        self, name: str, version: int | None = None
    ) -> Iterator[Servable]:
        """Keeps a version open for the length of a request.

        Args:
            name: the model asked for.
            version: the version asked for; `None` means the newest.

        Raises:
            tf.errors.NotFoundError: it is not being served.
        """
        with self._changed:
            servable = self._live
            if (
                servable is None
                or name != self.model_name
                or version not in (None, servable.version)
            ):
                wanted = (
                    f"Latest({name})"
                    if version is None
                    else f"Specific({name}, {version})"
                )
                raise status_codes.not_found(
                    f"Servable not found for request: {wanted}"
                )
            self._users[servable] = self._users.get(servable, 0) + 1
        try:
            yield servable
        finally:
            with self._changed:
                self._users[servable] -= 1
                idle = self._is_idle(servable)
            if idle:
                self._close(servable)

    def refresh(self) -> None:
        """Looks at the folder once, and loads what has to be loaded."""
        for version, path in self._versions_on_disk():
            live = self._live
            if live is not None and live.version == version:
                return
            fingerprint = _fingerprint(path)
            if self._failures.get(version) == fingerprint:
                continue
            if self._try(version, path):
                self._failures.pop(version, None)
                return
            self._failures[version] = fingerprint

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:
                # Such as a folder that vanished while it was being read.
                _LOG.exception("Could not look at %s", self.base_path)
            self._stop.wait(self._poll_seconds)

    def _versions_on_disk(self) -> list[tuple[int, pathlib.Path]]:
        found: dict[int, pathlib.Path] = {}
        try:
            entries = sorted(self.base_path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        for path in entries:
            name = path.name
            if not (name.isascii() and name.isdigit()):
                continue
            if int(name) > _MAX_VERSION or not _is_saved_model(path):
                continue
            found.setdefault(int(name), path)
        return sorted(found.items(), reverse=True)

    def _try(self, version: int, path: pathlib.Path) -> bool:
        self._set_state(version, VersionState("LOADING"))
        _LOG.info("Loading version %d of %s", version, self.model_name)
        try:
            servable = self._load(path, version)
        except Exception as error:
            code, message = status_codes.describe(error)
            self._set_state(version, VersionState("END", code, message))
            _LOG.error(
                "Version %d of %s cannot be served: %s: %s",
                version,
                self.model_name,
                code,
                message,
            )
            return False
        self._replace(servable)
        _LOG.info("Serving version %d of %s", version, self.model_name)
        return True

    def _replace(self, servable: Servable | None) -> None:
        with self._changed:
            old, self._live = self._live, servable
            if servable is not None:
                self._states[servable.version] = VersionState("AVAILABLE")
            if old is not None:
                self._states[old.version] = VersionState("UNLOADING")
                self._retired.add(old)
            idle = old is not None and self._is_idle(old)
            self._changed.notify_all()
        if old is not None and idle:
            self._close(old)

    def _is_idle(self, servable: Servable) -> bool:
        """Tells, once, that a retired version may be closed."""
        if servable not in self._retired or self._users.get(servable):
            return False
        self._retired.discard(servable)
        self._users.pop(servable, None)
        return True

    def _close(self, servable: Servable) -> None:
        servable.close()
        with self._changed:
            # Unless the version has been loaded again meanwhile.
            if self._states[servable.version].state == "UNLOADING":
                self._states[servable.version] = VersionState("END")
            self._changed.notify_all()

    def _set_state(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state
            self._changed.notify_all()


def _is_saved_model(path: pathlib.Path) -> bool:
    return any(
        (path / name).is_file()
        for name in ("saved_model.pb", "saved_model.pbtxt")
    )


def _fingerprint(path: pathlib.Path) -> tuple:
    """Tells one state of a folder's files from another."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return tuple(
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for file in files
    )

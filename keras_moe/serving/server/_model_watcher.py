"""Keeps the versions of a model loaded that are to be served."""

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.server._servable import Servable
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._confinement import check_assets
from keras_moe.serving.versions._confinement import check_links
from keras_moe.serving.versions._rollout import CANARY
from keras_moe.serving.versions._rollout import STABLE
from keras_moe.serving.versions._rollout import Rollout
from keras_moe.serving.versions._version_folders import file_stamps
from keras_moe.serving.versions._version_folders import find_versions

_LOG = logging.getLogger(__name__)


class ModelWatcher:
    """Watches a folder of versions and serves the newest that load.

    - A version is loaded when its files have been the same at two looks and
      are still the same when it has been loaded: never half-written.
    - A new version is loaded and warmed up before it answers, and one that it
      displaces is closed when the last request on it has been answered.
    - A version that fails to load, or that leads out of the folder, is
      reported and left alone until one of its files changes; meanwhile those
      before it are served.
    - Versions that were withdrawn (see `Rollout`) or removed are no longer
      served. When none is left, those in memory are kept.

    Args:
        model_name: name that requests give.
        base_path: folder that holds the versions; it may not exist yet.
        poll_seconds: pause between two looks at the folder.
        load: makes a `Servable` of a path and a version.
        num_versions: how many versions are served at a time.
        on_closed: called with the number of each version that was closed.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str | os.PathLike,
        poll_seconds: float = 1.0,
        load: Callable[[pathlib.Path, int], Servable] = Servable,
        num_versions: int = 2,
        on_closed: Callable[[int], None] = lambda version: None,
    ):
        self.model_name = model_name
        self.base_path = pathlib.Path(base_path)
        self._poll_seconds = poll_seconds
        self._load = load
        self._num_versions = num_versions
        self._on_closed = on_closed
        self._changed = threading.Condition()
        # `_changed` guards the next five attributes.
        self._served: dict[int, Servable] = {}
        self._rollout = Rollout()
        self._users: dict[Servable, int] = {}
        self._retired: set[Servable] = set()
        self._states: dict[int, VersionState] = {}
        # Stamps of versions' files: at the last look, and when loading
        # failed. The watching thread alone uses them.
        self._seen: dict[int, tuple] = {}
        self._failures: dict[int, tuple] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name=f"watch-{model_name}", daemon=True
        )

    def start(self) -> None:
        """Starts to watch, in a thread."""
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Stops watching and closes the models.

        Args:
            grace: seconds to wait for requests under way. A thread that is
                still inside TensorFlow when the interpreter ends would abort
                the process.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for servable in list(self._served.values()):
            self._retire(servable)
        with self._changed:
            self._changed.wait_for(lambda: not self._retired, grace)

    @property
    def live(self) -> Servable | None:
        """The version that answers where none is asked for, if there is one."""
        with self._changed:
            return self._served[max(self._served)] if self._served else None

    def states(self) -> dict[int, VersionState]:
        """Every version seen so far, newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    def labels(self) -> dict[str, int]:
        """The version that each label means now."""
        with self._changed:
            return self._labels()

    def certifications(self) -> dict[int, Certification]:
        """What is guaranteed of each version that is served and has some."""
        with self._changed:
            found = {
                version: servable.certification
                for version, servable in self._served.items()
            }
        return {
            version: each for version, each in found.items() if each is not None
        }

    def wait_until_available(self, timeout: float) -> bool:
        """Waits for a version to answer; tells whether one does."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._served), timeout)

    @contextlib.contextmanager
    def lease(self, spec: ModelSpec) -> Iterator[Servable]:
        """Keeps a version open for the length of a request.

        Args:
            spec: names the model, and the version or label.

        Yields:
            The version that is meant; by default the newest.

        Raises:
            tf.errors.InvalidArgumentError: there is no such label.
            tf.errors.NotFoundError: it is not being served.
        """
        with self._changed:
            servable = self._find(spec)
            self._users[servable] = self._users.get(servable, 0) + 1
        try:
            yield servable
        finally:
            with self._changed:
                self._users[servable] -= 1
                idle = self._is_idle(servable)
            if idle:
                self._close(servable)

    def resolve(self, spec: ModelSpec) -> int | None:
        """Gives the version that a request names; `None` if it names none.

        Raises:
            tf.errors.OpError: there is no such label, or no version has it.
        """
        if not spec.label:
            return spec.version
        with self._changed:
            return self._find(spec).version

    def refresh(self) -> None:
        """Looks at the folder once, and loads what has to be loaded."""
        paths = find_versions(self.base_path)
        try:
            rollout = Rollout.read(self.base_path)
        except (OSError, ValueError) as error:
            # A damaged file must not undo the decision that is in force.
            _LOG.error("The rollout is left as it is: %s", error)
            rollout = self._rollout
        # Versions are loaded before `_rollout` changes: labels follow it, and
        # a request for a label would fail if its version were not loaded yet.
        loaded: list[int] = []
        refused: set[int] = set()
        while True:
            wanted = rollout.to_serve(set(paths) - refused, self._num_versions)
            missing = [version for version in wanted if version not in loaded]
            if not missing:
                break
            version = missing[0]
            if version in self._served or self._try(version, paths[version]):
                loaded.append(version)
            else:
                refused.add(version)
        with self._changed:
            self._rollout = rollout
            if not loaded:
                return
            leaving = [
                servable
                for version, servable in self._served.items()
                if version not in loaded
            ]
        for servable in leaving:
            self._retire(servable)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:
                # A folder may vanish while it is being read. The thread must
                # live on, or no version would be loaded any more.
                _LOG.exception("Could not look at %s", self.base_path)
            self._stop.wait(self._poll_seconds)

    def _labels(self) -> dict[str, int]:
        return self._rollout.labels(self._served) or Rollout().labels(
            self._served
        )

    def _find(self, spec: ModelSpec) -> Servable:
        version = spec.version
        if spec.label:
            if spec.label not in (STABLE, CANARY):
                raise status_codes.invalid_argument(
                    f"Unrecognized servable version label: {spec.label}. There "
                    f"are: {STABLE}, {CANARY}."
                )
            version = self._labels().get(spec.label)
        elif version is None and self._served:
            version = max(self._served)
        if spec.name != self.model_name or version not in self._served:
            wanted = f"Specific({spec.name}, {spec.label or version})"
            is_latest = version is None and not spec.label
            if is_latest or spec.name != self.model_name:
                wanted = f"Latest({spec.name})"
            raise status_codes.not_found(
                f"Servable not found for request: {wanted}"
            )
        return self._served[version]

    def _try(self, version: int, path: pathlib.Path) -> bool:
        """Loads a version; tells whether it answers."""
        try:
            check_links(path, self.base_path)
            files = file_stamps(path)
        except tf.errors.OpError as error:
            files = (type(error).__name__, str(path.resolve()))
            self._fail(version, files, error)
            return False
        if self._failures.get(version) == files:
            return False
        if self._seen.get(version) != files:
            self._seen[version] = files
            return False
        self._set_state(version, VersionState("LOADING"))
        _LOG.info("Loading version %d of %s", version, self.model_name)
        try:
            check_assets(path)
            servable = self._load(path, version)
        except Exception as error:
            self._fail(version, files, error)
            return False
        if file_stamps(path) != files:
            servable.close()
            del self._seen[version]
            _LOG.warning("Version %d changed while it was loaded", version)
            return False
        self._failures.pop(version, None)
        with self._changed:
            self._served[version] = servable
            self._states[version] = VersionState("AVAILABLE")
            self._changed.notify_all()
        _LOG.info("Serving version %d of %s", version, self.model_name)
        return True

    def _fail(self, version: int, files: tuple, error: Exception) -> None:
        if self._failures.get(version) == files:
            return
        self._failures[version] = files
        code, message = status_codes.describe(error)
        # First: who sees the state finds the reason in the log.
        _LOG.error(
            "Version %d of %s cannot be served: %s: %s",
            version,
            self.model_name,
            code,
            message,
        )
        self._set_state(version, VersionState("END", code, message))

    def _retire(self, servable: Servable) -> None:
        with self._changed:
            del self._served[servable.version]
            self._states[servable.version] = VersionState("UNLOADING")
            self._retired.add(servable)
            # A version may be pushed anew under the same number: without its
            # stamps, two more looks must find it unchanged.
            self._seen.pop(servable.version, None)
            idle = self._is_idle(servable)
            self._changed.notify_all()
        if idle:
            self._close(servable)

    def _is_idle(self, servable: Servable) -> bool:
        """Tells whether to close a version: retired and unused; true once."""
        if servable not in self._retired or self._users.get(servable):
            return False
        self._retired.discard(servable)
        self._users.pop(servable, None)
        return True

    def _close(self, servable: Servable) -> None:
        servable.close()
        with self._changed:
            # A version that was loaded again meanwhile is AVAILABLE, and must
            # stay so.
            if self._states[servable.version].state == "UNLOADING":
                self._states[servable.version] = VersionState("END")
                self._on_closed(servable.version)
            self._changed.notify_all()

    def _set_state(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state
            self._changed.notify_all()

"""TensorFlow Serving's rule for a new configuration, without its models."""


class RefusedError(Exception):
    """What is FAILED_PRECONDITION there."""


class StockServer:
    """Follows configurations as `ServerCore::ReloadConfig` does.

    Its order is what matters: `UpdateModelVersionLabelMap` first, and only
    where that succeeds the source's new policy, under which versions are then
    loaded. So a label for a version that the new policy would load is refused,
    and the policy with it. With `allow`, the flag
    `--allow_version_labels_for_unavailable_models`, a label that there was not
    may name any version.

    Args:
        folder: the numbers of the versions on the disk, which may change.
        allow: the flag.
    """

    def __init__(self, folder, allow=True):
        self.folder = folder
        self.allow = allow
        self.labels = {}
        self.available = set()
        self._policy = None

    def reload(self, config):
        """Takes a configuration, or refuses it and goes on as before."""
        (model,) = config.model_config_list.config
        labels = dict(model.version_labels)
        for label, version in labels.items():
            is_new = self.labels.get(label, version) == version
            if version not in self.available and not (self.allow and is_new):
                raise RefusedError(
                    f"Request to assign label to version {version}, which is "
                    "not currently available for inference"
                )
        self.labels = labels
        self._policy = model.model_version_policy
        self.look()

    def look(self):
        """Looks at the folder, as it does each second; loads and unloads."""
        if self._policy is None:
            return
        if self._policy.WhichOneof("policy_choice") == "specific":
            self.available = self.folder & set(self._policy.specific.versions)
        else:
            newest = sorted(self.folder)[-self._policy.latest.num_versions :]
            self.available = set(newest)

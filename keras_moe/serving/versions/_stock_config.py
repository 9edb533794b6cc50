"""Configurations that TensorFlow Serving can follow, one after the other."""

from collections.abc import Iterable
from collections.abc import Mapping

from tensorflow_serving.config import model_server_config_pb2


def stock_steps(
    before: model_server_config_pb2.ModelServerConfig,
    after: model_server_config_pb2.ModelConfig,
    versions: Iterable[int],
) -> list[model_server_config_pb2.ModelServerConfig]:
    """Gives what a server that follows `before` must be told, in this order.

    A server that is told to load a version and to give it a label in one breath
    refuses both: it looks first whether each version that gets a label is
    available, then at what is to be loaded (`ServerCore::ReloadConfig`). It
    would refuse the same at each look at the file, and never load the version.
    So versions are loaded first, under the labels that there are.

    Args:
        before: what the server follows, of any models; empty if it is not yet
            started.
        after: what is wanted of one of its models.
        versions: those that are in the folder.

    Returns:
        One configuration, or two. Each is to be written once the server has
        read the one before it. Other models are left as they are.
    """
    own = [m for m in before.model_config_list.config if m.name == after.name]
    if not own:
        return [_with(before, after)]
    loaded = _loaded(own[0], versions)
    if loaded.issuperset(after.version_labels.values()):
        return [_with(before, after)]
    # A label whose version is not there any more answers no request: it is left
    # out until its new version is loaded.
    labels = {}
    for label, wanted in after.version_labels.items():
        for version in (wanted, own[0].version_labels.get(label)):
            if version in loaded:
                labels[label] = version
                break
    step = model_server_config_pb2.ModelConfig()
    step.CopyFrom(after)
    step.ClearField("version_labels")
    set_labels(step, labels)
    held = _loaded(after, versions).union(labels.values())
    step.model_version_policy.Clear()
    step.model_version_policy.specific.versions.extend(
        sorted(held, reverse=True)
    )
    return [_with(before, step), _with(before, after)]


def set_labels(
    model: model_server_config_pb2.ModelConfig, labels: Mapping[str, int]
) -> None:
    """Gives versions their labels in a configuration."""
    for label, version in labels.items():
        model.version_labels[label] = version


def _loaded(
    model: model_server_config_pb2.ModelConfig, versions: Iterable[int]
) -> set[int]:
    """Returns what a server holds of `versions` under a policy."""
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific":
        return set(versions).intersection(policy.specific.versions)
    newest = sorted(versions, reverse=True)
    if kind == "all":
        return set(newest)
    return set(newest[: policy.latest.num_versions or 1])


def _with(
    before: model_server_config_pb2.ModelServerConfig,
    model: model_server_config_pb2.ModelConfig,
) -> model_server_config_pb2.ModelServerConfig:
    config = model_server_config_pb2.ModelServerConfig()
    config.CopyFrom(before)
    models = [
        m for m in before.model_config_list.config if m.name != model.name
    ]
    del config.model_config_list.config[:]
    config.model_config_list.config.extend([*models, model])
    return config

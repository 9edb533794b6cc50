"""Which model and which of its versions a request means."""

from typing import NamedTuple

from tensorflow_serving.apis import model_pb2

from keras_moe.serving.protocol import _status_codes as status_codes


class ModelSpec(NamedTuple):
    """The model, and the version or the label, that a request asks for.

    Without a version and a label the newest version is meant.

    Attributes:
        name: the model.
        version: the number of the version; `None` where none is given.
        label: the version's label; empty where none is given.
    """

    name: str
    version: int | None = None
    label: str = ""

    @classmethod
    def from_proto(cls, proto: model_pb2.ModelSpec) -> "ModelSpec":
        """Reads the message, which has either a version or a label.

        Raises:
            tf.errors.InvalidArgumentError: the label is empty.
        """
        if proto.WhichOneof("version_choice") == "version_label":
            if not proto.version_label:
                # No version has it; the newest is not what was asked for.
                raise status_codes.invalid_argument(
                    "Unrecognized servable version label: "
                )
            return cls(proto.name, label=proto.version_label)
        if proto.HasField("version"):
            return cls(proto.name, proto.version.value)
        return cls(proto.name)

    def to_proto(self, signature_name: str = "") -> model_pb2.ModelSpec:
        """Writes the message.

        Args:
            signature_name: the signature to run; empty for the default one.
        """
        proto = model_pb2.ModelSpec(
            name=self.name, signature_name=signature_name
        )
        if self.label:
            proto.version_label = self.label
        elif self.version is not None:
            proto.version.value = self.version
        return proto

"""Makes KerasHub's backbones sparse; see the test."""

import json
import pathlib
import sys

import keras
import keras_hub
import numpy as np

from keras_moe import conversion

SIZES = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 50, (4, 7))
MASK = np.ones((4, 7), "int32")
MASK[0, 4:] = 0


def main(folder: str) -> None:
    said = {}
    for name in ("BertBackbone", "RobertaBackbone"):
        made = getattr(keras_hub.models, name)(**SIZES, max_sequence_length=12)
        said[name] = report(made, folder)
    t5 = keras_hub.models.T5Backbone(**SIZES, dropout=0.1)
    said["T5Backbone"] = report(t5, folder)
    llama = keras_hub.models.LlamaBackbone(
        vocabulary_size=50,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
    )
    found = conversion.find_feed_forwards(llama)
    said["LlamaBackbone"] = {
        "sites": [site.name for site in found.sites],
        "skipped": str(found.skipped),
    }
    print("REPORT" + json.dumps(said))


def report(dense: keras.Model, folder: str) -> dict:
    for weight in dense.trainable_weights:
        weight.assign(RNG.normal(scale=0.5, size=weight.shape))
    found = conversion.find_feed_forwards(dense)
    sparse = conversion.upcycle(dense, 4, moe_every=1)
    given = {
        name: MASK if "mask" in name else IDS * ("segment" not in name)
        for name in dense.input
    }
    wanted, received = outputs(dense, given), outputs(sparse, given)
    losses = len(sparse.losses)
    path = pathlib.Path(folder) / "model.keras"
    # Tracing such a model takes longer than a few steps of it.
    sparse.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    target = {name: 0.1 * value for name, value in wanted.items()}
    if len(target) == 1:
        (target,) = target.values()
    trained = sparse.fit(given, target, epochs=2, verbose=0).history["loss"]
    sparse.save(path)
    again = keras.saving.load_model(path)
    return {
        "sites": {site.name: bool(site.causal) for site in found.sites},
        "losses": losses,
        "largest": max(float(np.abs(v).max()) for v in wanted.values()),
        "difference": apart(wanted, received),
        "trained": trained,
        "reloaded": apart(outputs(sparse, given), outputs(again, given)),
    }


def outputs(model: keras.Model, given: dict) -> dict:
    found = model(given)
    found = found if isinstance(found, dict) else {"output": found}
    return {name: np.asarray(value) for name, value in found.items()}


def apart(one: dict, two: dict) -> float:
    """The largest difference where there is no padding."""
    real = MASK.astype(bool)
    return max(
        float(np.abs(value - two[name])[real if value.ndim == 3 else ...].max())
        for name, value in one.items()
    )


if __name__ == "__main__":
    main(sys.argv[1])

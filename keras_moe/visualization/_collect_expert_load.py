"""Runs a model to see where its tokens go."""

import itertools
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras

from keras_moe.validation import check_size
from keras_moe.visualization._layer_loads import LayerLoads
from keras_moe.visualization._layer_loads import routers_of

_INFINITE = -1  # `tf.data.INFINITE_CARDINALITY`


def collect_expert_load(
    model: keras.Model,
    data: Any,
    steps: int | None = None,
    batch_size: int = 32,
    training: bool = False,
) -> LayerLoads:
    """Runs the model over data and counts where its tokens went.

    Nothing of the model changes: neither its weights nor its metrics, nor the
    state of its random numbers.

    Args:
        model: a built model with at least one `layers.SparseMoE`.
        data: inputs as one array or a dictionary of arrays, cut into batches;
            or batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list
            or a generator, whose labels, as for `fit`, are left out.
        steps: number of batches; `None` for all.
        batch_size: rows of a batch, where `data` is not batched.
        training: whether to run the model as in training. Only then do tokens
            beyond the training capacity count as dropped.

    Returns:
        A `LayerLoads`.

    Raises:
        ValueError: if the model has no built router, or there is no data, or
            data without an end and no `steps`.

    Example:

    >>> inputs = keras.Input((None, 8))
    >>> layer = keras_moe.layers.SparseMoE(4, hidden_dim=16, name="moe")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> loads = keras_moe.visualization.collect_expert_load(
    ...     model, np.random.rand(64, 10, 8)
    ... )
    >>> loads.names, loads.loads[0].shape, loads.dropped
    (('moe',), (4,), (0.0,))
    """
    check_size(steps=steps, batch_size=batch_size)
    routers = routers_of(model)
    seen = False
    # Values assigned within the scope are dropped when it closes, so that the
    # model's metrics and random state stay as they were.
    with keras.StatelessScope():
        for router in routers.values():
            router.reset_metrics()
        for batch in itertools.islice(_batches(data, batch_size, steps), steps):
            model(batch, training=training)
            seen = True
        if not seen:
            raise ValueError("`data` must hold a batch. Received: none.")
        return LayerLoads.from_metrics(model)


def _batches(data: Any, batch_size: int, steps: int | None) -> Iterator[Any]:
    """Yields inputs alone."""
    if hasattr(data, "shape") or isinstance(data, dict):
        rows = len(keras.tree.flatten(data)[0])
        for start in range(0, rows, batch_size):
            yield keras.tree.map_structure(
                lambda x, start=start: x[start : start + batch_size], data
            )
        return
    if isinstance(data, keras.utils.PyDataset):
        endless = data.num_batches is None
        indices = itertools.count() if endless else range(data.num_batches)
        batches: Iterable[Any] = (data[i] for i in indices)
    else:
        batches = data
        cardinality = getattr(data, "cardinality", lambda: None)()
        endless = cardinality is not None and int(cardinality) == _INFINITE
    if endless and steps is None:
        raise ValueError(
            "`steps` must be given for data without an end. Received: "
            "steps=None."
        )
    for batch in batches:
        yield keras.utils.unpack_x_y_sample_weight(batch)[0]

"""Trainable rows that inputs of one direction share."""

import keras
from keras import ops

from keras_moe.backend import gather_rows
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.routers._locality_hash_router import LocalityHashRouter
from keras_moe.ops import RoutingPlan
from keras_moe.ops import group_tokens
from keras_moe.ops import ungroup_tokens
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class SketchMemory(keras.layers.Layer):
    """Adds to each input the row of a table that its hash points at.

    Inputs of about the same direction fall into one bucket, and read and train
    one row; several tables, each with a hash of its own, are averaged. Which
    row is read, says a `keras_moe.ops.RoutingPlan`: the memory is a bank of
    experts that are constant.

    When, and when not: to remember what belongs to a region of the input, at
    the price of a look-up, or as the table of sketches of modular networks.
    A dense layer of a few dozen units fitted a smooth function better
    (`python -m benchmarks.article`): regions are as uneven as the data, and
    their number grows with the dimension. Experimental.

    Sources: [Baykal et al., 2022](https://arxiv.org/abs/2208.04461), for
    hashes that route; [Deng et al., 2021](https://arxiv.org/abs/2112.10919),
    for tables of sketches.

    Args:
        num_buckets: rows of a table, two or more.
        num_tables: tables, each with random directions of its own.
        initializer: of the rows; zeros make a layer that changes nothing until
            it is trained.
        seed: of the directions, which are saved with the weights.

    Call arguments:
        inputs: `(batch, ..., dim)`.
        mask: bool `(batch, ...)`, false for padding, which reads nothing and
            comes out as it is; taken from the inputs where Keras propagates
            one.

    Output shape:
        That of the inputs. What is not finite stays so.

    Attributes:
        hashes: the `keras_moe.layers.LocalityHashRouter` of each table.
            `hashes[0].expert_load.load()` is the share of the inputs in each
            bucket.
        tables: float `(num_tables, num_buckets, dim)`, the rows.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> memory = keras_moe.layers.SketchMemory(num_buckets=16, num_tables=2)
    >>> x = np.random.rand(2, 5, 8)
    >>> bool(np.allclose(memory(x), x))
    True
    """

    def __init__(
        self,
        num_buckets: int,
        num_tables: int = 1,
        initializer: InitializerLike = "zeros",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(num_buckets=num_buckets, num_tables=num_tables)
        if num_buckets < 2:
            raise ValueError(
                "`num_buckets` must be at least 2: one bucket is a bias. "
                f"Received: num_buckets={num_buckets}."
            )
        self.num_buckets = num_buckets
        self.num_tables = num_tables
        self.initializer = keras.initializers.get(initializer)
        self.seed = seed
        self.hashes = [
            LocalityHashRouter(
                num_buckets,
                # A row takes any number of inputs: slots are of no use.
                capacity_factor=1e-9,
                eval_capacity_factor=1e-9,
                min_expert_capacity=1,
                seed=None if seed is None else seed + table,
                report_metrics=False,
                name=f"hash_{table}",
            )
            for table in range(num_tables)
        ]
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        dim = input_shape[-1]
        for each in self.hashes:
            each.build((None, None, dim))
        self.tables = self.add_weight(
            name="tables",
            shape=(self.num_tables, self.num_buckets, dim),
            initializer=self.initializer,
        )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        check_float(inputs=inputs)
        tokens, padding_mask = group_tokens(inputs, mask, None)
        plans = [each(tokens, padding_mask) for each in self.hashes]
        rows = [
            read_rows(table, plan)
            for table, plan in zip(
                ops.unstack(ops.convert_to_tensor(self.tables)),
                plans,
                strict=True,
            )
        ]
        read = sum(rows) / self.num_tables
        return inputs + ungroup_tokens(ops.cast(read, inputs.dtype), inputs)

    def compute_output_spec(
        self, inputs: Tensor, mask: Tensor | None = None, **others
    ) -> keras.KerasTensor:
        """Returns the spec of the output; warns of a mask that was lost."""
        check_float(inputs=inputs)
        warn_of_lost_mask(self, inputs, mask)
        return super().compute_output_spec(inputs, mask=mask, **others)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "num_tables": self.num_tables,
            "initializer": keras.initializers.serialize(self.initializer),
            "seed": self.seed,
        }


def read_rows(table: Tensor, plan: RoutingPlan) -> Tensor:
    """Returns `[groups, tokens, dim]`, the row that each token asked for.

    Args:
        table: `[experts, dim]`.
        plan: of one choice a token; what asked for nothing reads zeros.
    """
    index = plan.expert_index[..., 0]
    size = table.shape[0]
    asked = ops.expand_dims(index < size, -1)
    return ops.where(asked, gather_rows(table, ops.minimum(index, size - 1)), 0)

"""Finds the features that matter, one after the other, in one training."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.backend import refuse_recomputation
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers.selection._features import check_built
from keras_moe.layers.selection._features import check_unique
from keras_moe.layers.selection._features import column_groups
from keras_moe.layers.selection._features import multiply
from keras_moe.layers.selection._features import read_groups
from keras_moe.layers.selection._picks import shares
from keras_moe.layers.selection._picks import with_best
from keras_moe.layers.selection._schedule import Schedule
from keras_moe.layers.selection._select_features import SelectFeatures
from keras_moe.layers.selection._unusable import find_unusable
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor


@register
class SequentialAttention(keras.layers.Layer):
    """Picks `num_features` of its inputs while a model learns from them.

    The first layer of a model. Each feature is multiplied by its attention: 1
    for those that are picked, a share of 1, by a softmax over logits, for the
    others. At the end of each phase of the training those of the greatest
    attention are picked, and the logits begin anew; so a feature that only
    says what a picked one says already has nothing to win. After
    `total_steps` the layer passes on what was picked, and zeros. Then
    `to_select_layer()`, and train a fresh model on what it keeps.

    Steps are calls in training; in evaluation and while the layer is frozen
    (`trainable = False`) nothing moves. An update of several batches is one
    step where `keras_moe.training.Trainer(gradient_accumulation_steps=)` makes
    it; that of a Keras optimizer no layer sees. All state is in the weights: a
    selection that was saved half-way goes on.

    Features should be of one scale, as `keras.layers.Normalization` makes
    them: attention competes with it. Give each pick a hundred steps or more.

    Sources: [Yasuda et al., 2023](https://arxiv.org/abs/2209.14881), with picks
    at the end of phases (at their beginning, as in the authors' code, the first
    is by chance) and as many as were asked for. The mean over runs is after
    their remark that ensembles are steadier; here they follow one another in
    one model.

    Args:
        num_features: number of features to pick.
        num_per_step: how many at the end of a phase.
        total_steps: number of training steps in all.
        warmup_fraction: share of them at the beginning, when all features
            count 1.
        num_runs: runs of a phase, each from fresh logits; what is picked has
            the greatest mean attention.
        groups: names and numbers of columns, in the order of the columns: each
            group is one feature, such as the vector of an embedding table.
            `None`: each column is.

    Call arguments:
        inputs: float `(..., columns)`; or a dictionary of names to float
            tensors, each of which is one feature.
        training: whether to train.

    Output shape:
        That of the inputs.

    Raises:
        ValueError: if an argument is out of its range, a group is named twice,
            there are fewer features than `num_features`, or inputs are
            integers.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(256, 6))
    >>> y = x[:, 4] - x[:, 1]
    >>> layer = keras_moe.layers.SequentialAttention(2, total_steps=160)
    >>> model = keras.Sequential([layer, keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.Adam(0.05), "mse")
    >>> history = model.fit(x, y, batch_size=32, epochs=20, verbose=0)
    >>> sorted(layer.selected())
    [1, 4]
    >>> layer.to_select_layer()(x).shape
    TensorShape([256, 2])
    """

    def __init__(
        self,
        num_features: int,
        num_per_step: int = 1,
        *,
        total_steps: int,
        warmup_fraction: float = 0.1,
        num_runs: int = 1,
        groups: Any = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.schedule = Schedule(
            num_features, num_per_step, total_steps, warmup_fraction, num_runs
        )
        self.num_features = num_features
        self.num_per_step = num_per_step
        self.total_steps = total_steps
        self.warmup_fraction = warmup_fraction
        self.num_runs = num_runs
        self.groups = read_groups(groups)
        self.supports_masking = True
        # How a step is counted. `Trainer` counts an update of several batches.
        self.take_step: Callable[[], None] = self.advance

    def build(self, input_shape: Any) -> None:
        if isinstance(input_shape, dict):
            if self.groups is not None:
                raise ValueError(
                    "`groups` must be left out for a dictionary of inputs, "
                    f"which are features as they are. Received: {self.groups}."
                )
            self.names: list[str] | None = sorted(input_shape)
            self.column_groups = None
            number = len(self.names)
        else:
            groups = self.groups
            self.names = (
                None if groups is None else [name for name, _ in groups]
            )
            self.column_groups = column_groups(input_shape, self.groups)
            number = int(self.column_groups[-1]) + 1
        if self.num_features > number:
            raise ValueError(
                f"`num_features` must be at most the {number} features of the "
                f"inputs. Received: num_features={self.num_features}."
            )
        # Not cast to half precision in a call: rounded, different logits tie.
        self.logits = self.add_weight(
            name="logits",
            shape=(number,),
            initializer="zeros",
            dtype="float32",
            autocast=False,
        )
        # Where the logits stood when they last began anew: an optimizer, and
        # not a call, moves what is trained.
        self.start = self._state("start", "float32", number)
        self.mean_attention = self._state("mean_attention", "float32", number)
        self.usable = self._state("usable", "float32", number, 1)
        # The place of each feature in the order of picks; -1 for none.
        self.pick = self._state("pick", "int32", number, -1)
        self.step = self._state("step", "int32")

    def _state(
        self, name: str, dtype: str, number: int | None = None, value: int = 0
    ) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=() if number is None else (number,),
            dtype=dtype,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # all compute the same
        )

    # === Training ===

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training and self.trainable:
            refuse_recomputation(self)
            self.take_step()
        attention = self.attention()
        if isinstance(inputs, dict):
            check_float(**inputs)
            return {
                name: multiply(inputs[name], attention[number])
                for number, name in enumerate(self.names or [])
            }
        check_float(inputs=inputs)
        if self.groups is not None:
            attention = ops.take(attention, self.column_groups, axis=0)
        return multiply(inputs, attention)

    def attention(self) -> Tensor:
        """Returns what each feature is multiplied by, float32 `[features]`."""
        picked = ops.convert_to_tensor(self.pick) >= 0
        usable = ops.convert_to_tensor(self.usable)
        number = ops.sum(ops.cast(picked, "int32"))
        left = ops.where(number < self.num_features, self._shares(), 0.0)
        attention = ops.where(picked, 1.0, left)
        warm = ops.convert_to_tensor(self.step) <= self.schedule.warmup
        return ops.where(warm, usable, attention)

    def _shares(self) -> Tensor:
        """Returns the softmax over what may be picked; 0 for others."""
        picked = ops.convert_to_tensor(self.pick) >= 0
        free = ops.where(picked, 0.0, ops.convert_to_tensor(self.usable))
        return shares(self.logits - self.start, free)

    def advance(self) -> None:
        """Counts a training step; ends a run, or picks, where that is due."""
        updates = ops.convert_to_tensor(self.step)
        ends = ops.convert_to_tensor(self.schedule.run_ends)
        ended = ops.any(ends == updates)
        runs = ops.sum(ops.cast(ends <= updates, "int32"))
        picks = ended & (runs % self.num_runs == 0)
        share = ops.stop_gradient(self._shares()) / self.num_runs
        mean = self.mean_attention + ops.where(ended, share, 0.0)
        before = ops.convert_to_tensor(self.pick)
        usable = ops.convert_to_tensor(self.usable)
        best = with_best(
            before, mean, usable, self.num_per_step, self.num_features
        )
        pick = ops.where(picks, best, before)
        logits = ops.stop_gradient(ops.convert_to_tensor(self.logits))
        start = ops.where(ended, logits, ops.convert_to_tensor(self.start))
        self.pick.assign(pick)
        self.mean_attention.assign(ops.where(picks, 0.0, mean))
        self.start.assign(start)
        self.step.assign(updates + 1)

    # === Before and after ===

    def adapt(self, data: Any) -> list:
        """Leaves out features that say nothing, before the training.

        Args:
            data: examples as the layer is called with, NumPy arrays.

        Returns:
            Numbers or names of features that are constant, or not finite
            everywhere: they are never picked, and passed on as 0, and so is
            what was excluded before.

        Raises:
            ValueError: if one is picked already, or fewer than `num_features`
                are left.
        """
        if not self.built:
            self.build(keras.tree.map_structure(np.shape, data))
        if isinstance(data, dict):
            columns = [data[name] for name in self.names or []]
        else:
            groups = self.column_groups
            columns = [
                np.asarray(data)[..., groups == number]
                for number in range(self.logits.shape[0])
            ]
        unusable = find_unusable(columns)
        self.exclude(self._named(unusable))
        return self._named(unusable)

    def exclude(self, features: Iterable[Any]) -> None:
        """Makes features be never picked, beside those excluded before.

        Args:
            features: numbers or names, as `selected` returns them.

        Raises:
            ValueError: if one is unknown, comes twice or is picked already, or
                fewer than `num_features` are left; or no data was seen yet.
        """
        check_built(self)
        features = list(features)
        known = self._named(range(self.logits.shape[0]))
        if unknown := [each for each in features if each not in known]:
            raise ValueError(
                f"`features` must be features of the layer. Received: {unknown}"
            )
        if features:
            check_unique("features", features)
        if picked := [each for each in self.selected() if each in features]:
            raise ValueError(
                "`features` must not be picked already. Received: "
                f"{picked}, which are."
            )
        before = ops.convert_to_numpy(self.usable) > 0
        usable = before & [each not in features for each in known]
        if (left := int(usable.sum())) < self.num_features:
            raise ValueError(
                f"There must be at least num_features={self.num_features} "
                f"features that can be picked. Received: {left}, without "
                f"{self._named(np.flatnonzero(~usable))}."
            )
        self.usable.assign(usable.astype("float32"))

    def selected(self) -> list:
        """Returns what was picked so far, the first first.

        Numbers of columns; names, where features have some.

        Raises:
            ValueError: if no data was seen yet.
        """
        check_built(self)
        pick = ops.convert_to_numpy(self.pick)
        order = np.argsort(pick, kind="stable")
        return self._named(order[np.sort(pick) >= 0])

    def to_select_layer(
        self, num_features: int | None = None
    ) -> SelectFeatures:
        """Returns a layer that passes on what was picked, and nothing else.

        Args:
            num_features: how many, of those that were picked first; all by
                default.

        Raises:
            ValueError: if fewer are picked by now, or no data was seen yet.
        """
        wanted = self.num_features if num_features is None else num_features
        picked = self.selected()
        if not 1 <= wanted <= len(picked):
            raise ValueError(
                "`num_features` must be at most what was picked, "
                f"{len(picked)} after {int(self.step)} of {self.total_steps} "
                f"steps. Received: {wanted}."
            )
        return SelectFeatures(picked[:wanted], self.groups)

    def _named(self, numbers: Iterable[int]) -> list:
        if self.names is None:
            return [int(number) for number in numbers]
        return [self.names[number] for number in numbers]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_features": self.num_features,
            "num_per_step": self.num_per_step,
            "total_steps": self.total_steps,
            "warmup_fraction": self.warmup_fraction,
            "num_runs": self.num_runs,
            "groups": self.groups,
        }

"""Program: times the TensorFlow Model Garden's layer for its benchmark."""

import tensorflow as tf

from benchmarks.moe_layer.task import CAPACITY_FACTOR
from benchmarks.moe_layer.task import DENSE
from benchmarks.moe_layer.task import answer
from benchmarks.moe_layer.task import over_dense
from benchmarks.moe_layer.task import read_task
from benchmarks.moe_layer.tf_models_moe import moe

# Group sizes that divide the batch; the layer's documentation recommends 4096
# tokens, its constructor's default is one sequence.
_TOKENS_OF_GROUP = (4096, 512, 256, 128)


def main() -> None:
    """Times the layer, at several group sizes, against its dense layer."""
    task = read_task()
    tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    tf.config.threading.set_inter_op_parallelism_threads(task.threads)
    tokens = tf.constant(task.tokens())
    gradient = tf.constant(task.output_gradient())
    layers = {DENSE: moe.FeedForward(task.hidden_dim, activation=tf.nn.relu)}
    # One bank of experts for all group sizes: 1 GB at 128 experts.
    experts = moe.FeedForwardExperts(
        task.experts, task.hidden_dim, activation=tf.nn.relu
    )
    for group in _TOKENS_OF_GROUP:
        # Smaller groups are left out: an expert would have no slot, and the
        # layer would give zeros.
        if (
            group <= task.batch * task.length
            and CAPACITY_FACTOR * group >= task.experts
        ):
            layers[f"group_{group}"] = moe.MoeLayer(
                experts,
                moe.ExpertsChooseMaskedRouter(
                    task.experts, use_bias=False, export_metrics=False
                ),
                train_capacity_factor=CAPACITY_FACTOR,
                examples_per_group=group / task.length,
            )

    def forward(layer):
        return tf.function(lambda: layer(tokens, training=True))

    def backward(layer):
        layer(tokens, training=True)

        @tf.function
        def call():
            with tf.GradientTape() as tape:
                tape.watch(tokens)
                outputs = layer(tokens, training=True)
            gradients = tape.gradient(
                outputs, [tokens, *layer.trainable_variables], gradient
            )
            # Without the outputs TensorFlow would leave out the dense layer's
            # last product, which no gradient needs.
            return outputs, gradients

        return call

    figures = {
        phase: over_dense(
            {name: make(layer) for name, layer in layers.items()}, task.rounds
        )
        for phase, make in (
            ("forward", forward),
            ("forward_backward", backward),
        )
    }
    answer({**figures, "version": tf.__version__})


if __name__ == "__main__":
    main()

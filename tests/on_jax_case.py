"""Layers, losses and operations, tried on any backend alike.

`python -m tests.on_jax_case WEIGHTS FOUND` reads the weights that another
backend began with, and writes what the parts gave with them.
"""

import sys

import keras
import numpy as np

from keras_moe import layers
from keras_moe import losses
from keras_moe import metrics
from keras_moe import ops
from tests import on_jax_models_case

BATCH, LENGTH, DIM, EXPERTS = 4, 6, 8, 4
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(BATCH, LENGTH, DIM)).astype("float32")
OTHER = _RNG.normal(size=(BATCH, LENGTH, DIM)).astype("float32")
IDS = _RNG.integers(1, DIM, (BATCH, LENGTH)).astype("int32")
LENGTHS = np.array([LENGTH, LENGTH, 4, 3])
MASK = np.arange(LENGTH) < LENGTHS[:, None]
SEGMENTS = np.arange(LENGTH) // 2 + np.zeros_like(IDS)


class Trial(keras.layers.Layer):
    """Parts behind a dense layer, into which their gradients must come."""

    def __init__(self, parts, use):
        super().__init__()
        self.front = keras.layers.Dense(DIM)
        self.parts = parts
        self.use = use

    def call(self, inputs):
        x = self.front(inputs)
        return keras.tree.flatten(self.use(*self.parts, x))


class Block(keras.layers.Layer):
    """A block of another library, for `SplicedBlock`."""

    def build(self, input_shape):
        self.up = keras.layers.Dense(16, activation="relu")
        self.down = keras.layers.Dense(input_shape[-1])

    def call(self, inputs, padding_mask=None):
        return inputs + self.down(self.up(inputs))


def sparse(router, **call_arguments):
    """A sparse layer, with its losses."""
    moe = layers.SparseMoE(EXPERTS, 16, router=router)
    return [moe], lambda moe, x: moe(x, mask=MASK, **call_arguments)


def attends(attention, **call_arguments):
    """Self-attention."""
    return [attention], lambda attention, x: attention(x, x, **call_arguments)


def padded(attention, **call_arguments):
    return attends(
        attention, query_mask=MASK, value_mask=MASK, **call_arguments
    )


def layer(made, **call_arguments):
    return [made], lambda made, x: made(x, **call_arguments)


def streams(attention):
    """Position by position, from a state."""

    if not attention.built:
        attention.build((None, None, DIM), (None, None, DIM))

    def use(attention, x):
        state, outputs = attention.init_state(BATCH, max_length=LENGTH), []
        for position in range(LENGTH):
            at = x[:, position : position + 1]
            output, state = attention.step(at, state)
            outputs.append(output)
        return outputs

    return [attention], use


def random_features(**options):
    """Attention whose features stay: to fit them is to draw them anew."""
    attention = layers.RandomFeatureAttention(
        2, 4, 8, exact_below=None, **options
    )
    attention.build((None, None, DIM), (None, None, DIM))
    attention.features.trainable = False
    return attention


def decoder_block():
    block = layers.DecoderBlock(
        layers.T5Attention(2, 4),
        layers.T5Attention(2, 4),
        layers.FeedForward(16),
    )
    positions = np.arange(LENGTH)

    def use(block, bias, x):
        return block(
            x, OTHER, bias(positions, positions), MASK, memory_mask=MASK
        )

    return [block, layers.RelativePositionBias(2)], use


def all_losses(x):
    scores = keras.ops.reshape(x, (BATCH, -1))
    exits = keras.ops.transpose(x, (2, 0, 1))
    shares = keras.ops.softmax(x)
    half = np.full((BATCH, LENGTH), 0.5, "float32")
    return {
        "exit_classifier": [
            losses.exit_classifier_loss(
                exits, np.transpose(OTHER, (2, 0, 1)) > 0, MASK, kind
            )
            for kind in ("independent", "geometric")
        ],
        "hidden_state_distance": [
            losses.hidden_state_distance(OTHER, x, MASK, distance)
            for distance in ("mse", "cosine")
        ],
        "in_batch_softmax": losses.in_batch_softmax(
            scores,
            losses.accidental_hits(IDS[:, 0], np.arange(LENGTH * DIM) % DIM),
            num_hard_negatives=5,
            mask=LENGTHS > 3,
        ),
        "load_balancing": losses.load_balancing_loss(
            shares, MASK, IDS[..., None] % DIM
        ),
        "router_z": losses.router_z_loss(x, MASK),
        "student_mixing": losses.student_mixing_loss(OTHER, x, half, 3, MASK),
        "token_crossentropy": losses.token_crossentropy(
            IDS * MASK, x, label_smoothing=0.1, sample_weight=LENGTHS / LENGTH
        ),
        "token_kl_divergence": losses.token_kl_divergence(OTHER, x, MASK, 2.0),
        "weighted_mean": losses.weighted_mean(
            x[..., 0], MASK, sample_weight=LENGTHS / LENGTH
        ),
        "enabled_exits": losses.enabled_exits("rotating", [1, 2, 3], 5),
    }


def all_ops(x):
    return {
        "margin": ops.softmax_margin(x),
        "entropy": ops.entropy_confidence(x),
        "saturation": ops.state_saturation(OTHER, x),
        "gelu": ops.gelu_tanh(x),
        "rotary": ops.rotary_embedding(x, np.arange(LENGTH)),
        "top": ops.partial_reduce_top_k(x, 3, 4),
        "kept": ops.expand_logits(*ops.compress_logits(x, 3), DIM),
        "shifted": ops.shift_right(IDS),
        "assignment": ops.capped_assignment(x, 3, 2, MASK, 0.1, 20),
        "statistics": metrics.routing_statistics(
            ops.top_k_routing(keras.ops.softmax(x), 2, 3, MASK), MASK
        ),
    }


_ROUTER = {"num_experts": EXPERTS, "jitter_noise": 0.0}
TRIALS = {
    "switch": lambda: sparse(layers.SwitchRouter(**_ROUTER)),
    "top_k": lambda: sparse(layers.TopKRouter(**_ROUTER)),
    "expert_choice": lambda: sparse(layers.ExpertChoiceRouter(**_ROUTER)),
    "bias_balanced": lambda: sparse(layers.BiasBalancedRouter(**_ROUTER)),
    "soft": lambda: sparse(layers.SoftRouter(EXPERTS)),
    "hash": lambda: sparse(
        layers.HashRouter(EXPERTS, vocabulary_size=DIM), token_ids=IDS
    ),
    "locality_hash": lambda: sparse(layers.LocalityHashRouter(EXPERTS)),
    "sketch_memory": lambda: layer(layers.SketchMemory(8, 2), mask=MASK),
    "spliced_block": lambda: layer(
        layers.SplicedBlock(
            Block(),
            layers.SparseMoE(EXPERTS, 16, router=layers.TopKRouter(**_ROUTER)),
            {"inner": "up", "outer": "down"},
        ),
        padding_mask=MASK,
    ),
    "t5_attention": lambda: padded(layers.T5Attention(2, 4)),
    "t5_attention, streamed": lambda: streams(layers.T5Attention(2, 4)),
    "tree_attention": lambda: padded(layers.TreeAttention(2, 4, height=3)),
    "random_features": lambda: padded(random_features()),
    "random_features, packed": lambda: padded(
        random_features(causal=True), segment_ids=SEGMENTS
    ),
    "random_features, streamed": lambda: streams(
        random_features(causal=True, rotary=True)
    ),
    "scale_invariant_attention": lambda: padded(
        layers.ScaleInvariantAttention(2, 4)
    ),
    "scale_invariant_attention, not centered": lambda: padded(
        layers.ScaleInvariantAttention(2, 4, center_scores=False)
    ),
    "scale_invariant_block": lambda: layer(
        layers.ScaleInvariantBlock(2, 4, 16), padding_mask=MASK
    ),
    "decoder_block": decoder_block,
    "sequential_attention": lambda: layer(
        layers.SequentialAttention(2, total_steps=4)
    ),
    "select_features": lambda: layer(layers.SelectFeatures([3, 0])),
    "top_k_activation": lambda: layer(layers.TopKActivation(3), mask=MASK),
    "mean_pooling": lambda: layer(layers.MeanPooling(), mask=MASK),
    "retrieval": lambda: layer(
        layers.Retrieval(OTHER[0], 10 * np.arange(LENGTH), k=3)
    ),
    "losses": lambda: ([], all_losses),
    "ops": lambda: ([], all_ops),
}


def make(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=X.shape)
    # Only a functional model tells layers within others that they are trained.
    return keras.Model(inputs, Trial(*TRIALS[name]())(inputs))


def weighed(outputs):
    """A sum of all outputs, in which no two count alike."""
    total = 0.0
    for output in outputs:
        if keras.backend.is_float_dtype(output.dtype):
            output = keras.ops.cast(output, "float32")
            flat = keras.ops.reshape(output, (-1,))
            total += keras.ops.sum(flat * np.cos(np.arange(flat.shape[0])))
    return total


def on_jax(trial):
    """Outputs, gradients and state after a step of training."""
    import jax

    def total(trained):
        outputs, state, added = trial.stateless_call(
            trained,
            [v.value for v in trial.non_trainable_variables],
            X,
            training=True,
            return_losses=True,
        )
        return weighed(outputs) + sum(added), (outputs, state)

    step = jax.jit(jax.value_and_grad(total, has_aux=True))
    (value, (outputs, state)), gradients = step(
        [v.value for v in trial.trainable_variables]
    )
    for variable, moved in zip(
        trial.non_trainable_variables, state, strict=True
    ):
        variable.assign(moved)
    return value, outputs, gradients


def on_tensorflow(trial):
    """As `on_jax`."""
    import tensorflow as tf

    trained = [v.value for v in trial.trainable_variables]
    with tf.GradientTape() as tape:
        outputs = trial(X, training=True)
        value = weighed(outputs) + sum(trial.losses)
    gradients = tape.gradient(value, trained, unconnected_gradients="zero")
    return value, outputs, [tf.convert_to_tensor(each) for each in gradients]


def run(name, weights=None):
    """Returns the weights that a trial begins with, and what it gives."""
    trial = make(name)
    if weights is None:
        rng = np.random.default_rng(1)
        for variable in trial.trainable_weights:
            noise = rng.normal(scale=0.3, size=variable.shape)
            variable.assign_add(noise)
    else:
        trial.set_weights(list(weights.values()))
    weights = {str(n): w for n, w in enumerate(trial.get_weights())}
    backend = keras.backend.backend()
    run_on = {"jax": on_jax, "tensorflow": on_tensorflow}[backend]
    value, outputs, gradients = run_on(trial)
    found = {"value": value}
    for kind, tensors in {
        "output": outputs,
        "gradient": gradients,
        "state": trial.non_trainable_weights,
    }.items():
        for number, tensor in enumerate(tensors):
            found[f"{kind} {number}"] = keras.ops.convert_to_numpy(tensor)
    return weights, found


def save(path, arrays_of_trials):
    """Writes arrays by the name of their trial and their own."""
    np.savez(
        path,
        **{
            f"{trial}/{name}": array
            for trial, arrays in arrays_of_trials.items()
            for name, array in arrays.items()
        },
    )


def load(path):
    """Reads what `save` wrote."""
    arrays_of_trials = {}
    for name, array in np.load(path).items():
        trial, name = name.split("/")
        arrays_of_trials.setdefault(trial, {})[name] = array
    return arrays_of_trials


def main(weights, found):
    given = load(weights)
    results = {name: run(name, given[name])[1] for name in TRIALS}
    for name in on_jax_models_case.FITS:
        results[name] = on_jax_models_case.run(name, given[name])[1]
    save(found, results)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Makes a model by mesh-tensorflow, saves it, and asks it; see the test.

Run as a program: the model is a graph of TensorFlow 1, and its settings are
gin's, which are those of the whole process.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow.compat.v1 as tf

from tests.parity.mesh_tensorflow_stub import import_from_mesh_tensorflow

BATCH, SOURCE, TARGET, VOCABULARY = 4, 16, 12, 100
SETTINGS = """
transformer.sublayer_dropout.dropout_rate = 0.0
transformer.Unitransformer.d_model = 32
transformer.Unitransformer.max_length = 64
transformer.Unitransformer.positional_embedding = False
transformer.Unitransformer.shared_embedding_and_softmax_weights = {tied}
transformer.make_layer_stack.num_layers = 2
encoder/transformer.make_layer_stack.layers = [{encoder}]
decoder/transformer.make_layer_stack.layers = [{decoder}]
transformer_layers.SelfAttention.num_heads = 4
transformer_layers.SelfAttention.key_value_size = 8
transformer_layers.SelfAttention.dropout_rate = 0.0
transformer_layers.SelfAttention.relative_attention_type = "bias_shared"
transformer_layers.DenseReluDense.hidden_size = 64
transformer_layers.DenseReluDense.dropout_rate = 0.0
moe.MoE1D.num_experts = 4
moe.MoE1D.hidden_size = 64
moe.MoE1D.group_size = 32
moe.MoE1D.moe_gating = "switch"
moe.MoE1D.switch_policy_eval = "argmax"
# No expert is ever full, as outside of training here.
moe.MoE1D.capacity_factor_eval = 16.0
"""
NORMS = {
    "legacy": """
LayerStack.dropout_rate = 0.0
LayerStack.norm_epsilon = 1e-6
""",
    "t5.1.0": """
LayerStack.dropout_rate = None
LayerStack.norm_epsilon = None
transformer.LayerStack.sublayers_initial = []
transformer.LayerStack.sublayers_per_layer = [
    @transformer.sublayer_rms_norm,
    @transformer.sublayer_call_layer,
    @transformer.sublayer_residual]
transformer.LayerStack.sublayers_final = [@transformer.sublayer_rms_norm]
""",
}
GATED = """
transformer_layers.DenseReluDense.activation = ["gelu", "linear"]
moe.MoE1D.activation = ["gelu", "linear"]
"""


def settings(style: str, sparse: bool) -> str:
    attend = "@transformer_layers.SelfAttention"
    across = "@transformer_layers.EncDecAttention"
    dense = "@transformer_layers.DenseReluDense"
    networks = [dense, "@moe.MoE1D"] if sparse else [dense]
    new = style == "t5.1.1"
    text = SETTINGS.format(
        tied=not new,
        encoder=", ".join(f"{attend}, {n}" for n in networks),
        decoder=", ".join(f"{attend}, {across}, {n}" for n in networks),
    )
    return text + NORMS["t5.1.0" if new else style] + (GATED if new else "")


def main(folder: str, style: str, sparse: str) -> None:
    """Writes `model.ckpt` and `answers.npz` to a folder."""
    mtf, transformer, *_, placement = import_from_mesh_tensorflow(
        "mesh_tensorflow",
        "mesh_tensorflow.transformer.transformer",
        "mesh_tensorflow.transformer.transformer_layers",
        "mesh_tensorflow.transformer.moe",
        "mesh_tensorflow.placement_mesh_impl",
    )
    import gin

    gin.parse_config(settings(style, json.loads(sparse)))
    root = pathlib.Path(folder)
    rng = np.random.default_rng(0)
    source = rng.integers(2, VOCABULARY, (BATCH, SOURCE)).astype("int32")
    target = rng.integers(2, VOCABULARY, (BATCH, TARGET)).astype("int32")
    source[1, 10:], target[2, 8:] = 0, 0
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        graph = mtf.Graph()
        mesh = mtf.Mesh(graph, "mesh")
        length = {"source": SOURCE, "target": TARGET}
        given = {
            name: mtf.import_tf_tensor(
                mesh,
                tf.constant(ids),
                mtf.Shape(
                    [
                        mtf.Dimension("batch", BATCH),
                        mtf.Dimension("length", length[name]),
                    ]
                ),
            )
            for name, ids in (("source", source), ("target", target))
        }
        model = transformer.make_bitransformer(
            input_vocab_size=VOCABULARY,
            output_vocab_size=VOCABULARY,
            layout="",
            mesh_shape="",
        )
        logits, _ = model.call_simple(
            given["source"],
            given["target"],
            compute_loss=True,
            mode="eval",
            variable_dtype=mtf.VariableDType(*[tf.float32] * 3),
        )
        lowering = mtf.Lowering(
            graph,
            {
                mesh: placement.PlacementMeshImpl(
                    mtf.convert_to_shape("all:1"),
                    mtf.convert_to_layout_rules(""),
                    ["cpu:0"],
                )
            },
        )
        answer = lowering.export_to_tf_tensor(logits)
        session.run(tf.global_variables_initializer())
        # What they begin with leaves experts, words and distances alike.
        for variable in tf.global_variables():
            shape = variable.shape.as_list()
            drawn = rng.normal(0, shape[-2] ** -0.5 if shape[1:] else 1, shape)
            if "scale" in variable.op.name:
                drawn = rng.uniform(0.5, 1.5, shape)
            variable.load(drawn.astype("float32"), session)
        session.run(lowering.copy_masters_to_slices())
        found = session.run(answer)
        tf.train.Saver().save(session, str(root / "model.ckpt"))
    np.savez(root / "answers.npz", source=source, target=target, logits=found)


if __name__ == "__main__":
    main(*sys.argv[1:])

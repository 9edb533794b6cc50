"""Runs mesh-tensorflow's gating functions on given logits."""

from typing import NamedTuple
from unittest import mock

import numpy as np
import tensorflow as tf

from tests.parity.mesh_tensorflow_stub import import_from_mesh_tensorflow

mtf, moe, placement_mesh_impl = import_from_mesh_tensorflow(
    "mesh_tensorflow",
    "mesh_tensorflow.transformer.moe",
    "mesh_tensorflow.placement_mesh_impl",
)

# Deterministic and without what `keras_moe` leaves to layers and losses.
_HPARAMS = {
    "moe_switch_policy_eval": "argmax",
    "moe_second_policy_eval": "all",
    "moe_second_threshold_eval": 0.2,
    "moe_top_n_num_experts_per_token": 3,
    "moe_use_second_place_expert_prob": None,
    "moe_use_second_place_loss": False,
    "moe_word_embed_mode": None,
    "moe_z_loss": None,
}


class Gating(NamedTuple):
    """What a gating function returns.

    Attributes:
        dispatch: float32 `[groups, tokens, experts, slots]`, zeros and ones.
        combine: float32 of the same shape.
        loss: the load-balancing loss.
    """

    dispatch: np.ndarray
    combine: np.ndarray
    loss: float


def run_gating(
    name: str,
    logits: np.ndarray,
    expert_capacity: int,
    importance: np.ndarray | None = None,
    **hparams,
) -> Gating:
    """Calls `mesh_tensorflow.transformer.moe._{name}_gating`, not in training.

    Args:
        name: such as `"switch"`.
        logits: float32 `[groups, tokens, experts]`.
        expert_capacity: slots of an expert.
        importance: float32 `[groups, tokens]`, 0 for padding and else 1.
        **hparams: changes to the hyperparameters.
    """
    groups, tokens, experts = logits.shape
    group, expert, slot = (
        mtf.Dimension("group", tokens),
        mtf.Dimension("expert_unsplit", experts),
        mtf.Dimension("expert_capacity", expert_capacity),
    )
    outer = [mtf.Dimension("outer_batch", 1), mtf.Dimension("batch", groups)]
    extra = {"group_size_dim": group} if name == "expert_selection" else {}
    with tf.Graph().as_default():
        mesh = mtf.Mesh(mtf.Graph(), "mesh")
        # The functions compute the logits themselves, from inputs and a
        # kernel. The kernel here is the identity.
        inputs = mtf.import_tf_tensor(
            mesh,
            tf.constant(logits[None], "float32"),
            mtf.Shape([*outer, group, mtf.Dimension("input", experts)]),
        )
        if importance is not None:
            importance = mtf.import_tf_tensor(
                mesh,
                tf.constant(importance[None], "float32"),
                mtf.Shape([*outer, group]),
            )
        with mock.patch.object(mtf.layers, "dense", _identity):
            dispatch, combine, loss = getattr(moe, f"_{name}_gating")(
                inputs,
                outer_expert_dims=None,
                experts_dim=expert,
                expert_capacity_dim=slot,
                hparams=moe.HParams(**{**_HPARAMS, **hparams}),
                train=False,
                variable_dtype=mtf.VariableDType(),
                importance=importance,
                **extra,
            )
        axes = mtf.Shape([*outer, group, expert, slot])
        return Gating(
            *(array[0] for array in _compute(mtf.transpose(dispatch, axes))),
            *(array[0] for array in _compute(mtf.transpose(combine, axes))),
            float(_compute(loss)[0]),
        )


def run_z_loss(logits: np.ndarray, importance: np.ndarray) -> float:
    """Calls `mesh_tensorflow.transformer.moe._router_z_loss`."""
    axes = [
        mtf.Dimension(name, size)
        for name, size in zip(
            ("batch", "group", "expert_unsplit"), logits.shape, strict=True
        )
    ]
    with tf.Graph().as_default():
        mesh = mtf.Mesh(mtf.Graph(), "mesh")
        loss = moe._router_z_loss(
            mtf.import_tf_tensor(
                mesh, tf.constant(logits, "float32"), mtf.Shape(axes)
            ),
            axes[-1],
            num_microbatches=1,
            importance=mtf.import_tf_tensor(
                mesh, tf.constant(importance, "float32"), mtf.Shape(axes[:2])
            ),
        )
        return float(_compute(loss)[0])


def _identity(inputs, experts_dim, **kwargs):
    return mtf.rename_dimension(inputs, "input", experts_dim.name)


def _compute(*tensors) -> list[np.ndarray]:
    mesh = tensors[0].mesh
    implementation = placement_mesh_impl.PlacementMeshImpl(
        mtf.convert_to_shape("all:1"), mtf.convert_to_layout_rules(""), [""]
    )
    lowering = mtf.Lowering(mesh.graph, {mesh: implementation})
    with tf.compat.v1.Session() as session:
        return session.run(
            [lowering.export_to_tf_tensor(tensor) for tensor in tensors]
        )

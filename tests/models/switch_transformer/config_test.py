"""Sizes: how many parameters they make, and which are refused."""

import numpy as np
import pytest

from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig
from tests.models.switch_transformer.switch_transformer_case import EACH_KIND
from tests.models.switch_transformer.switch_transformer_case import SIZES
from tests.models.switch_transformer.switch_transformer_case import make


def parameters(c: SwitchTransformerConfig):
    """The number of parameters, by counting matrices."""
    d, inner = c.model_dim, c.num_heads * c.head_dim
    attention = 4 * d * inner
    feed_forward = (3 if c.gated else 2) * d * c.hidden_dim

    def feed(block):
        if not c.is_sparse(block):
            return feed_forward
        return c.num_experts * feed_forward + d * c.num_experts

    total = 2 * c.num_relative_buckets * c.num_heads + 2 * d
    for block in range(c.num_encoder_layers):
        total += attention + 2 * d + feed(block)
    for block in range(c.num_decoder_layers):
        total += 2 * attention + 3 * d + feed(block)
    total += c.output_size * d
    if c.target_vocabulary_size is not None:
        total += c.vocabulary_size * d
    if not c.tie_embeddings:
        total += c.output_size * d
    return total


@pytest.mark.parametrize("kind", EACH_KIND)
def test_parameter_count(kind):
    model = make(kind)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == parameters(model.config)
    paths = [w.path for w in model.weights]
    assert len(set(paths)) == len(paths)


def test_base_size_is_the_papers():
    # Switch-Base has 7.4B parameters at 128 experts and T5-Base's dense part
    # 223M; at 8 experts the published checkpoint holds about 620M.
    config = SwitchTransformerConfig(
        **SwitchTransformer.presets["switch_base_8"]["config"]
    )
    assert parameters(config) == pytest.approx(620e6, rel=0.01)


def test_which_blocks_are_sparse():
    sizes = {**SIZES, "num_encoder_layers": 6, "moe_every": 3}
    config = SwitchTransformerConfig(**sizes)
    assert [config.is_sparse(i) for i in range(6)] == [0, 0, 1, 0, 0, 1]
    assert not SwitchTransformerConfig(**{**SIZES, "num_experts": 0}).is_sparse(
        1
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vocabulary_size": 0}, "`vocabulary_size`.*=0"),
        ({"model_dim": 0}, "`model_dim`.*=0"),
        ({"model_dim": 2.5}, "`model_dim`.*=2.5"),
        ({"num_encoder_layers": 0}, "`num_encoder_layers`"),
        ({"num_decoder_layers": 0}, "`num_decoder_layers`"),
        ({"num_heads": 0}, "`num_heads`"),
        ({"num_heads": 3}, "`model_dim`.*num_heads=3"),
        ({"hidden_dim": -1}, "`hidden_dim`"),
        ({"moe_every": 0}, "`moe_every`"),
        ({"moe_every": 9}, "`moe_every` must leave a block.*moe_every=9"),
        ({"num_experts": -1}, "`num_experts`"),
        ({"num_experts": 1.5}, "`num_experts`"),
        ({"key_dim": 0}, "`key_dim`"),
        ({"target_vocabulary_size": 0}, "`target_vocabulary_size`"),
        ({"pad_id": 12}, "`pad_id`.*12"),
        ({"end_id": -1}, "`end_id`"),
        ({"end_id": 0}, "`end_id`"),
        ({"start_id": 12}, "`start_id`"),
        ({"target_vocabulary_size": 5, "start_id": 6}, "`start_id`.*5"),
        ({"dropout_rate": 1.0}, "`dropout_rate`"),
        ({"expert_dropout_rate": -0.1}, "expert_dropout_rate"),
        ({"num_relative_buckets": 2}, "`num_relative_buckets`"),
        ({"max_relative_distance": 8}, "`max_relative_distance`"),
    ],
)
def test_config_errors(sizes, message):
    with pytest.raises(ValueError, match=message):
        SwitchTransformer(**{**SIZES, **sizes})


def test_config_or_sizes():
    config = SwitchTransformerConfig(**SIZES)
    assert SwitchTransformer(config).config == config
    with pytest.raises(ValueError, match="either.*hidden_dim"):
        SwitchTransformer(config, hidden_dim=3)

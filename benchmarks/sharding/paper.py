"""Program: what meshes for large models cost, on paper.

    python -m benchmarks.sharding.paper

Prints the table of docs/distribution.md: what `benchmarks.sharding` measures on
small layers, computed for the shapes of Switch Transformers (arXiv:2101.03961,
table 9; 128 experts for XXL, which give its 395 billion parameters).
"""

from typing import NamedTuple

FLOAT, HALF = 4, 2
LENGTH = 512
CAPACITY_FACTOR = 1.25
# Float32 copies of each weight: the weight, its gradient, and Adam's two
# moments.
COPIES = 4


class Shape(NamedTuple):
    """An encoder and a decoder of `num_layers` each; gated networks."""

    name: str
    num_layers: int
    model_dim: int
    hidden_dim: int
    num_heads: int
    num_experts: int = 128
    key_dim: int = 64
    vocabulary_size: int = 32128

    @property
    def expert_weights(self) -> int:
        """Weights of experts: every other feed-forward network is sparse."""
        return self.num_layers * self.num_experts * self._network

    @property
    def dense_weights(self) -> int:
        """Other weights: attention (twice in the decoder), networks, tokens."""
        width = self.num_heads * self.key_dim
        attention = 3 * self.num_layers * 4 * self.model_dim * width
        return (
            attention
            + self.num_layers * self._network
            + 2 * self.vocabulary_size * self.model_dim
        )

    @property
    def _network(self) -> int:
        return 3 * self.model_dim * self.hidden_dim


SHAPES = (
    Shape("Switch-Base", 12, 768, 2048, 12),
    Shape("Switch-Large", 24, 1024, 2816, 16),
    Shape("Switch-XXL", 24, 4096, 10240, 64),
)
# Devices along "batch", "expert" and "model"; sequences in a batch.
MESHES = (
    ((1, 8, 1), 64),
    ((1, 64, 1), 512),
    ((1, 128, 4), 1024),
)
XXL_MESHES = (((1, 8, 1), 8), ((1, 64, 1), 64), ((1, 128, 4), 256))


def row(shape: Shape, mesh: tuple[int, int, int], batch: int) -> list[str]:
    """Returns one line of the table."""
    along_batch, along_expert, along_model = mesh
    weights = shape.expert_weights / (along_expert * along_model)
    weights += shape.dense_weights / along_model
    shares = along_batch * along_expert
    tokens = batch * LENGTH / shares
    # Where devices lie along both "batch" and "expert", attention is computed
    # along "batch" alone.
    rows = batch * LENGTH / (along_batch if along_batch > 1 else along_expert)
    # Activations kept for the backward pass, which computes each block again:
    # the inputs of 2.5 sublayers a layer, in bfloat16, and the slots of one
    # layer of experts.
    blocks = 5 * shape.num_layers * rows * shape.model_dim * HALF
    slots = CAPACITY_FACTOR * tokens * HALF
    slots *= 2 * shape.model_dim + 2 * shape.hidden_dim / along_model
    # All-to-alls: to the experts and back, in the forward pass and in the
    # gradient.
    exchange = 4 * shape.num_layers * CAPACITY_FACTOR * tokens
    exchange *= shape.model_dim * HALF * (along_expert - 1) / along_expert
    # All-reduces send everything twice: dense gradients go over all devices
    # that share them, those of experts over "batch".
    reduce = 2 * (shares - 1) / shares * shape.dense_weights / along_model
    reduce += (
        2
        * (along_batch - 1)
        / along_batch
        * shape.expert_weights
        / (along_expert * along_model)
    )
    # Sums of attention and networks that are split along "model", forward and
    # backward.
    sums = 2 * 2 * (along_model - 1) / along_model * blocks
    total = shape.expert_weights + shape.dense_weights
    return [
        shape.name,
        f"{total / 1e9:.1f}",
        str(along_batch * along_expert * along_model),
        " x ".join(map(str, mesh)),
        str(batch),
        f"{COPIES * FLOAT * weights / 2**30:,.1f}",
        f"{(blocks + slots) / 2**30:,.2f}",
        f"{exchange / 2**30:,.2f}",
        f"{(FLOAT * reduce + sums) / 2**30:,.1f}",
    ]


def table() -> str:
    """Returns the table as Markdown."""
    heads = [
        "model",
        "parameters, 10^9",
        "devices",
        "mesh",
        "sequences",
        "weights, GiB",
        "activations, GiB",
        "all-to-alls, GiB",
        "all-reduces, GiB",
    ]
    rows = [heads, ["---"] * len(heads)]
    for shape in SHAPES:
        meshes = XXL_MESHES if shape.name.endswith("XXL") else MESHES
        rows += [row(shape, mesh, batch) for mesh, batch in meshes]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


if __name__ == "__main__":
    print(table())

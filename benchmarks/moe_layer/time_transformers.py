"""Program: times transformers' Switch layer on PyTorch for its benchmark."""

import torch
from transformers import SwitchTransformersConfig
from transformers.models.switch_transformers import (
    modeling_switch_transformers as switch,
)

from benchmarks.moe_layer.task import DENSE
from benchmarks.moe_layer.task import answer
from benchmarks.moe_layer.task import over_dense
from benchmarks.moe_layer.task import read_task


def main() -> None:
    """Times the layer against the same library's dense layer."""
    task = read_task()
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    config = SwitchTransformersConfig(
        d_model=task.dim,
        d_ff=task.hidden_dim,
        num_experts=task.experts,
        expert_capacity=task.capacity_of_sequence,
        dropout_rate=0.0,
        # Jitter is off: transformers multiplies the input in place, so that in
        # float32 the experts would see the noise, too.
        router_jitter_noise=0.0,
    )
    sparse = switch.SwitchTransformersSparseMLP(config).train()
    dense = switch.SwitchTransformersDenseActDense(config).train()
    with torch.no_grad():
        kernel = torch.from_numpy(task.router_kernel())
        sparse.router.classifier.weight.copy_(kernel.T)
    tokens = torch.from_numpy(task.tokens()).requires_grad_()
    gradient = torch.from_numpy(task.output_gradient())

    def forward(layer):
        def call():
            with torch.no_grad():
                return layer(tokens)

        return call

    def backward(layer):
        wanted = (tokens, *layer.parameters())

        def call():
            # With few slots some expert may get no token, and its weights no
            # gradient.
            return torch.autograd.grad(
                layer(tokens), wanted, gradient, allow_unused=True
            )

        return call

    layers = {DENSE: dense, "layer": sparse}
    figures = {
        phase: over_dense(
            {name: make(layer) for name, layer in layers.items()}, task.rounds
        )
        for phase, make in (
            ("forward", forward),
            ("forward_backward", backward),
        )
    }
    with torch.no_grad():
        kept = sparse.router(tokens)[0].sum() / (task.batch * task.length)
    answer({**figures, "kept": float(kept), "version": torch.__version__})


if __name__ == "__main__":
    main()

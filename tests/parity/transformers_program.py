"""Runs transformers' Switch layer; started by `peer_layers_test`."""

import sys

import numpy as np
import torch
from transformers import SwitchTransformersConfig
from transformers.models.switch_transformers import (
    modeling_switch_transformers as switch,
)


def main(source: str, target: str) -> None:
    """Reads arrays, computes outputs and gradients, writes them."""
    given = {name: torch.from_numpy(a) for name, a in np.load(source).items()}
    experts, dim, hidden_dim = given["wi"].shape
    config = SwitchTransformersConfig(
        d_model=dim,
        d_ff=hidden_dim,
        num_experts=experts,
        expert_capacity=int(given["capacity"]),
        dropout_rate=0.0,
        router_jitter_noise=0.0,
    )
    layer = switch.SwitchTransformersSparseMLP(config).train()
    banks = [layer.experts[f"expert_{index}"] for index in range(experts)]
    with torch.no_grad():
        layer.router.classifier.weight.copy_(given["kernel"].T)
        for index, bank in enumerate(banks):
            bank.wi.weight.copy_(given["wi"][index].T)
            bank.wo.weight.copy_(given["wo"][index].T)
    tokens = given["tokens"].requires_grad_()
    outputs = layer(tokens)
    outputs.backward(given["gradient"])
    np.savez(
        target,
        outputs=outputs.detach(),
        tokens=tokens.grad,
        kernel=layer.router.classifier.weight.grad.T,
        wi=torch.stack([bank.wi.weight.grad.T for bank in banks]),
        wo=torch.stack([bank.wo.weight.grad.T for bank in banks]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

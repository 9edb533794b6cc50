"""Program: random weights of a published model's sizes, by `transformers`."""

import json
import pathlib
import sys

import torch
import transformers

_SEED = 0


def main(directory: str, kind: str, config: str) -> None:
    """Writes a checkpoint.

    Args:
        directory: new; there when the checkpoint is whole.
        kind: `"SwitchTransformers"` or `"T5"`.
        config: fields of the config, as JSON.
    """
    torch.manual_seed(_SEED)
    described = getattr(transformers, f"{kind}Config")(**json.loads(config))
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(described)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Unlike the library's own first values, these make experts, words
            # and distances differ.
            if "layer_norm" in name:
                weight.uniform_(0.5, 1.5)
            elif "relative" in name:
                weight.normal_(0, 0.5)
            elif "shared" in name:
                # With larger ones the tied head says a word's own word, and an
                # answer is one word without end.
                weight.normal_(0, 0.1)
            elif name.endswith(".q.weight"):
                # T5 does not divide scores by the root of a head's width:
                # larger queries would make roundings grow from layer to layer.
                weight.normal_(0, (weight.shape[-1] * described.d_kv) ** -0.5)
            else:
                weight.normal_(0, weight.shape[-1] ** -0.5)
    partial = pathlib.Path(f"{directory}.partial")
    model.save_pretrained(partial)
    partial.rename(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])

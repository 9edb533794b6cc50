"""Makes checkpoints by `transformers`, and reads ours; see the test."""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers


def main(folder: str) -> None:
    """Reads `cases.json`; writes models and answers, or answers alone."""
    root = pathlib.Path(folder)
    for name, case in json.loads((root / "cases.json").read_text()).items():
        directory = root / name
        if "config" in case:
            model = make(case["kind"], case["config"])
            model.save_pretrained(
                directory, max_shard_size=case.get("max_shard_size", "5GB")
            )
        model = getattr(transformers, case["kind"]).from_pretrained(directory)
        answer(model, root, name)


def make(kind: str, config: dict):
    torch.manual_seed(0)
    described = getattr(transformers, f"{kind.split('For')[0]}Config")(**config)
    model = getattr(transformers, kind)(described)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Unlike the libraries' own first values, these make experts, words
            # and distances differ.
            if "layer_norm" in name:
                weight.uniform_(0.5, 1.5)
            elif "relative" in name or "shared" in name or "embed" in name:
                weight.normal_(0, 0.5)
            else:
                weight.normal_(0, weight.shape[-1] ** -0.5)
    if config.get("tie_word_embeddings") is False:
        # Version 5 ties T5's head unless the values of a file differ.
        head = torch.nn.Parameter(0.3 * torch.randn_like(model.shared.weight))
        model.lm_head.weight = head
    return model


def answer(model, root: pathlib.Path, name: str) -> None:
    model.eval()
    given = np.load(root / "inputs.npz")
    source = torch.from_numpy(given["source"])
    target = torch.from_numpy(given["target"])
    with torch.no_grad():
        mask = (source != 0).long()
        logits = model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target
        ).logits
        tokens = model.generate(
            input_ids=source,
            attention_mask=mask,
            max_new_tokens=12,
            do_sample=False,
            num_beams=1,
            suppress_tokens=[0],  # our decoders never say padding
            output_scores=True,
            return_dict_in_generate=True,
        )
    np.savez(
        root / f"{name}.npz",
        logits=logits.numpy(),
        tokens=tokens.sequences.numpy(),
        scores=torch.stack(tokens.scores, 1).numpy(),
        version=transformers.__version__,
    )


if __name__ == "__main__":
    main(sys.argv[1])

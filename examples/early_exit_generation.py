"""A decoder that stops early where it is sure, under a certificate.

Command:  python examples/early_exit_generation.py
Time:     about a minute on two cores
Expected: all of 1,000 numbers right with all four layers, 99.4 % with 1.02
          layers a token, in half the time an answer; certified threshold 0.5.
          Nearly half of the numbers are short, and were learned from
"""

import argparse
import dataclasses
import time

import keras
import numpy as np
from data import numbers

import keras_moe

LAYERS = 4


def main() -> None:
    """Trains all exits, certifies a threshold, compares answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    keras.utils.set_random_seed(0)
    pairs = numbers.load(2_500 if quick else 14_000)
    train, certify, test = (
        numbers.Pairs(pairs.sources[part], pairs.targets[part])
        for part in (slice(2000, None), slice(1000, 2000), slice(1000))
    )
    model = keras_moe.models.SwitchTransformer(
        vocabulary_size=len(numbers.SYMBOLS),
        model_dim=64,
        hidden_dim=256,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=LAYERS,
        num_experts=0,
    )
    trainer = keras_moe.training.EarlyExitTrainer(model)
    trainer.compile(
        keras.optimizers.Adam(2e-3), keras_moe.losses.token_crossentropy
    )
    shifted = keras_moe.ops.shift_right(train.targets)
    trainer.fit(
        {"encoder_token_ids": train.sources, "decoder_token_ids": shifted},
        train.targets,
        batch_size=128,
        epochs=1 if quick else 10,
        verbose=2,
    )

    policy = keras_moe.generation.EarlyExitPolicy("softmax")
    certificate = keras_moe.calibration.calibrate_exits(
        model,
        certify.sources,
        policy,
        thresholds=[1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5],
        loss=lambda early, full: (early != full).any(axis=1),
        tolerance=0.02,  # of 50 answers one differs, at a confidence of 95 %
        p_value="binary",
        max_length=numbers.TARGET_LENGTH,
    )
    print(f"certified threshold: {certificate.threshold}")
    certified = dataclasses.replace(policy, threshold=certificate.threshold)
    for name, early_exit in (("all layers", None), ("early exit", certified)):
        arguments = {
            "max_length": numbers.TARGET_LENGTH,
            "early_exit": early_exit,
        }
        model.generate(test.sources[:1], **arguments)  # traced
        began = time.perf_counter()
        for row in test.sources[:100]:
            model.generate(row[None], **arguments)
        each = (time.perf_counter() - began) / 100
        answer = model.generate(test.sources, **arguments)
        ids = np.array(answer["token_ids"])
        right = np.mean((ids == test.targets).all(axis=1))
        depth = LAYERS
        if early_exit is not None:
            depth = np.array(answer["exit_layer"])[test.targets > 0].mean()
        print(
            f"{name}: {right:.1%} right, {depth:.2f} layers a token, "
            f"{1000 * each:.1f} ms an answer"
        )
    print(numbers.decode(ids[0]))


if __name__ == "__main__":
    main()

"""A small classifier that asks a large one for the hard texts, certified.

Command:  make wordnet && python examples/cascade.py
Time:     half a minute on two cores
Expected: small: 24 % right, large: 62 %, cascade: 48 % with 44 % of the texts
          deferred (certified: at most half). The report says that the rule
          defers better than plain confidence does
"""

import argparse

import keras
import numpy as np
from data import glosses

import keras_moe

LENGTH, WORDS, FEW = 24, 20_000, 600


def make_model(words: int, dim: int, layers: int) -> keras.Model:
    """A classifier that knows the `words` commonest words."""
    ids = keras.Input((LENGTH,), dtype="int32")
    # Ids of rarer words become 1, that of unknown ones.
    known = keras.ops.where(ids < words, ids, 1)
    x = keras.layers.Embedding(words, dim, mask_zero=True)(known)
    for _ in range(layers):
        feed_forward = keras_moe.layers.FeedForward(4 * dim)
        x = keras.layers.Add()([x, feed_forward(x)])
    x = keras.layers.Dropout(0.3)(keras_moe.layers.MeanPooling()(x))
    return keras.Model(ids, keras.layers.Dense(glosses.TOPICS, "softmax")(x))


def main() -> None:
    """Trains both, fits a rule, has its threshold certified, and answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    keras.utils.set_random_seed(0)
    read = glosses.load(most=12_000 if quick else 40_000)
    # A tenth each: to fit the rule, to certify its threshold, and to test.
    tenth = len(read.texts) // 10
    tokens = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH
    )
    tokens.adapt(read.texts[3 * tenth :])
    x, y = tokens(read.texts).numpy().astype("int32"), read.topics
    fit, certify, test = (slice(i * tenth, (i + 1) * tenth) for i in range(3))

    small = make_model(FEW, dim=16, layers=0)
    large = make_model(tokens.vocabulary_size(), dim=128, layers=2)
    for model in (small, large):
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(
            x[3 * tenth :],
            y[3 * tenth :],
            batch_size=256,
            epochs=1 if quick else 3,
            verbose=2,
        )

    def wrong(model: keras.Model, rows: slice) -> np.ndarray:
        answers = model.predict(x[rows], verbose=0).argmax(axis=-1)
        return (answers != y[rows]).astype(float)

    outputs = small.predict(x[fit], verbose=0)
    rule = keras_moe.calibration.DeferralRule.fit(
        outputs, large.predict(x[fit], verbose=0), y[fit], models=(small, large)
    )
    print(rule.report)
    shares = np.linspace(0.95, 0.05, 19)
    thresholds = np.quantile(rule.scores(outputs), shares, method="higher")
    certificate = keras_moe.calibration.calibrate_cascade(
        rule,
        rule.scores(small.predict(x[certify], verbose=0)),
        wrong(small, certify),
        wrong(large, certify),
        thresholds,
        budget=0.5,  # at most every second text goes to the large model
    )
    cascade = keras_moe.models.Cascade(
        [small, large], rule.with_threshold(certificate)
    )
    answer = cascade.predict(x[test], batch_size=256, verbose=0)
    right = np.mean(answer["outputs"].argmax(axis=-1) == y[test])
    print(
        f"small: {1 - wrong(small, test).mean():.1%} right, "
        f"large: {1 - wrong(large, test).mean():.1%}, cascade: {right:.1%}"
    )
    print(f"deferred: {np.mean(answer['stage'] == 1):.1%}")


if __name__ == "__main__":
    main()

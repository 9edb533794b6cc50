"""Program: our answers, compared with the peer's, and the time they take."""

import functools

import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks.inference_vs_peers.least_reading import least_seconds
from benchmarks.inference_vs_peers.task import END_ID
from benchmarks.inference_vs_peers.task import PAD_ID
from benchmarks.inference_vs_peers.task import read_task
from benchmarks.inference_vs_peers.task import tell
from benchmarks.inference_vs_peers.task import time_rounds
from keras_moe.conversion import load_hugging_face
from keras_moe.generation import Greedy
from keras_moe.models import SwitchTransformer

# Two logits nearer than this may be ordered otherwise there.
_NEAR = 1e-4


class Endless(Greedy):
    """Never chooses the end: all engines emit as many tokens."""

    def choose(self, logits, position):
        end = ops.arange(logits.shape[-1]) == END_ID
        return super().choose(ops.where(end, -1e9, logits), position)


def main() -> None:
    """Compares each batch with the peer's answers, then times it."""
    task = read_task()
    # One thread an operation, and operations side by side in the thread that
    # calls and its like: products are cut for them.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    side_by_side = -1 if task.threads > 1 else 1
    tf.config.threading.set_inter_op_parallelism_threads(side_by_side)
    model = load_hugging_face(task.model)
    figures = {
        "seconds": {},
        "logit_difference": {},
        "excused": {},
        "least_seconds": least_seconds(model),
        "version": tf.__version__,
    }
    for batch in task.batches:
        answer = functools.partial(
            model.generate, task.sources(batch), task.tokens, None, Endless()
        )
        given = np.load(task.answers_of(batch))
        tokens, logits = given["tokens"], given["logits"]
        figures["logit_difference"][batch] = _logit_difference(
            model, task.sources(batch), tokens, logits
        )
        figures["excused"][batch] = count_excused(
            answer()["token_ids"].numpy(), tokens, logits
        )
        figures["seconds"][batch] = time_rounds(
            lambda answer=answer: answer()["token_ids"].numpy(), task.rounds
        )
    tell(figures)


def _logit_difference(
    model: SwitchTransformer,
    sources: np.ndarray,
    tokens: np.ndarray,
    logits: np.ndarray,
) -> float:
    """Returns the greatest, where ours had said what the peer said.

    Of what the peer forbids, some hold no logits, but a number that is hardly
    finite: the end and padding are left out.
    """
    start = np.full((len(tokens), 1), model.config.start_id)
    ours = model(
        {
            "encoder_token_ids": sources,
            "decoder_token_ids": np.concatenate([start, tokens[:, :-1]], 1),
        }
    )
    words = np.setdiff1d(np.arange(logits.shape[-1]), (PAD_ID, END_ID))
    return float(np.abs((np.asarray(ours) - logits)[..., words]).max())


def count_excused(
    ours: np.ndarray, theirs: np.ndarray, logits: np.ndarray
) -> int:
    """Counts rows that part where two tokens are as good.

    Raises:
        RuntimeError: if one parts elsewhere.
    """
    excused = 0
    for row, differs in enumerate(ours != theirs):
        for place in np.flatnonzero(differs)[:1]:
            said = logits[row, place]
            gap = said[theirs[row, place]] - said[ours[row, place]]
            if gap > _NEAR:
                raise RuntimeError(
                    f"Row {row} parts at token {place}, where the peer's "
                    f"logits differ by {gap}."
                )
            excused += 1
    return excused


if __name__ == "__main__":
    main()

"""Program: answers by CTranslate2, and the time they take."""

import ctranslate2
import numpy as np

from benchmarks.inference_vs_peers.task import CONVERTED
from benchmarks.inference_vs_peers.task import PAD_ID
from benchmarks.inference_vs_peers.task import Task
from benchmarks.inference_vs_peers.task import read_task
from benchmarks.inference_vs_peers.task import tell
from benchmarks.inference_vs_peers.task import time_rounds


def main() -> None:
    """Answers each batch, keeps the answers, then times them."""
    task = read_task()
    model = ctranslate2.Translator(
        str(task.model / CONVERTED),
        device="cpu",
        compute_type="float32",
        inter_threads=1,
        intra_threads=task.threads,
    )
    seconds = {}
    for batch in task.batches:
        if not task.answers_of(batch).exists():
            _keep_answers(model, task, batch)
        seconds[batch] = time_rounds(
            lambda batch=batch: _answer(model, task, batch), task.rounds
        )
    tell({"seconds": seconds, "version": ctranslate2.__version__})


def _answer(model, task: Task, batch: int, **options):
    return model.translate_batch(
        [[str(i) for i in row] for row in task.sources(batch)],
        beam_size=1,
        min_decoding_length=task.tokens,
        max_decoding_length=task.tokens,
        suppress_sequences=[[str(PAD_ID)]],  # our decoders never say padding
        **options,
    )


def _keep_answers(model, task: Task, batch: int) -> None:
    said = _answer(model, task, batch, return_logits_vocab=True)
    np.savez(
        task.answers_of(batch),
        tokens=np.array([each.hypotheses[0] for each in said]).astype("int32"),
        logits=np.stack([np.stack(each.logits[0]) for each in said]),
    )


if __name__ == "__main__":
    main()

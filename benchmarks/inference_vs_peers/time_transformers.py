"""Program: answers by `transformers` on PyTorch, and the time they take."""

import numpy as np
import torch
import transformers

from benchmarks.inference_vs_peers.task import PAD_ID
from benchmarks.inference_vs_peers.task import Task
from benchmarks.inference_vs_peers.task import read_task
from benchmarks.inference_vs_peers.task import tell
from benchmarks.inference_vs_peers.task import time_rounds


def main() -> None:
    """Answers each batch, keeps the answers, then times them."""
    task = read_task()
    torch.set_num_threads(task.threads)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(task.model)
    model.eval()
    seconds = {}
    for batch in task.batches:
        if not task.answers_of(batch).exists():
            _keep_answers(model, task, batch)
        seconds[batch] = time_rounds(
            lambda batch=batch: _answer(model, task, batch), task.rounds
        )
    tell({"seconds": seconds, "version": transformers.__version__})


def _answer(model, task: Task, batch: int, **options):
    source = torch.from_numpy(task.sources(batch)).long()
    return model.generate(
        input_ids=source,
        attention_mask=torch.ones_like(source),
        min_new_tokens=task.tokens,
        max_new_tokens=task.tokens,
        do_sample=False,
        num_beams=1,
        suppress_tokens=[PAD_ID],  # our decoders never say padding
        **options,
    )


def _keep_answers(model, task: Task, batch: int) -> None:
    said = _answer(
        model, task, batch, output_logits=True, return_dict_in_generate=True
    )
    np.savez(
        task.answers_of(batch),
        tokens=said.sequences[:, 1:].numpy(),  # without the start
        logits=torch.stack(said.logits, 1).numpy(),
    )


if __name__ == "__main__":
    main()

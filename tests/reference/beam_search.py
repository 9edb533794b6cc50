"""Beam search as slow lists, and every answer that there is, in float64.

`next_log_p` takes an answer so far, a tuple of ids, and returns the log
probabilities of the next id; `-inf` for what cannot be.
"""

import numpy as np


def score(log_p, length, length_penalty):
    return log_p / ((5 + length) / 6) ** length_penalty


def exhaustive(next_log_p, end_id, max_length, length_penalty):
    """The best of all answers that end; if none does, the best cut off."""
    ended, cut_off = [], []

    def follow(said, log_p):
        if said and said[-1] == end_id:
            ended.append((said, log_p))
        elif len(said) == max_length:
            cut_off.append((said, log_p))
        else:
            for token, more in enumerate(next_log_p(said)):
                if more > -np.inf:
                    follow((*said, token), log_p + more)

    follow((), 0.0)
    scored = [
        (said, log_p, score(log_p, len(said), length_penalty))
        for said, log_p in ended or cut_off
    ]
    return max(scored, key=lambda answer: answer[2])


def beam_search(next_log_p, end_id, max_length, num_beams, length_penalty):
    """All finished answers are kept, and the search goes on to the end."""
    alive, finished = [((), 0.0)], []
    for _ in range(max_length):
        extended = [
            ((*said, token), log_p + more)
            for said, log_p in alive
            for token, more in enumerate(next_log_p(said))
            if more > -np.inf
        ]
        extended.sort(key=lambda answer: -answer[1])
        finished += [
            (said, log_p, score(log_p, len(said), length_penalty))
            for said, log_p in extended[:num_beams]
            if said[-1] == end_id
        ]
        alive = [pair for pair in extended if pair[0][-1] != end_id]
        alive = alive[:num_beams]
    if finished:
        return max(finished, key=lambda answer: answer[2])
    said, log_p = alive[0]
    return said, log_p, score(log_p, len(said), length_penalty)

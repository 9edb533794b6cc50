"""What the tests of the routers' arithmetic share."""

import numpy as np

from tests.reference.seat import softmax


def scores(groups, tokens, experts, rng, ties=False):
    """Logits whose gates are either equal to the bit or well apart.

    The reference computes in float64: where two gates differ by less than
    float32 tells apart, there is no right order.
    """
    logits = rng.normal(size=(groups, tokens, experts)) * 1.5
    if ties and tokens > 1:
        # Whole tokens repeat, and experts of one token.
        source = rng.integers(0, max(tokens // 2, 1), (groups, tokens))
        logits = np.take_along_axis(logits, source[..., None], axis=1)
        logits[..., -1] = np.where(
            logits[..., 0] > 0, logits[..., 0], logits[..., -1]
        )
    return logits.astype("float32")


def padding(groups, tokens, rng, share):
    """A mask that is true with probability `share`; `None` for `None`."""
    if share is None:
        return None
    return rng.random((groups, tokens)) < share


def check_plan(
    plan, logits, seats, capacity=None, asks=None, mask=None, ranked=True
):
    """Asserts that a plan is the reference's, table by table.

    Args:
        plan: the plan.
        logits: `[groups, tokens, experts]`, of whose softmax the plan tells;
            `None` where the plan's probabilities are something else.
        seats: for each group the seats of the reference.
        capacity: slots of an expert; `None` where the table is as long as
            the fullest expert's queue.
        asks: for each group the choices before any drop.
        mask: true for the tokens whose probabilities matter.
        ranked: whether the k-th entry of a token is its k-th choice, rather
            than any of those it got.
    """
    table, weights = (
        np.asarray(plan.token_index),
        np.asarray(plan.combine_weight),
    )
    where, probabilities = (
        np.asarray(plan.slot_index),
        np.asarray(plan.probabilities),
    )
    groups, tokens, experts = probabilities.shape
    choices = where.shape[2]
    if capacity is None:
        capacity = max([1] + [s.slot + 1 for group in seats for s in group])
    for array in (plan.token_index, plan.slot_index, plan.expert_index):
        assert array.dtype == "int32"
    for array in (plan.combine_weight, plan.probabilities):
        assert array.dtype == "float32"
    want_table = np.full((groups, experts, capacity), tokens)
    want_weights = np.zeros((groups, experts, capacity))
    want_where = np.full((groups, tokens, choices), experts * capacity)
    for g, group in enumerate(seats):
        for s in group:
            assert want_table[g, s.expert, s.slot] == tokens
            want_table[g, s.expert, s.slot] = s.token
            want_weights[g, s.expert, s.slot] = s.weight
            want_where[g, s.token, s.rank] = s.expert * capacity + s.slot
    np.testing.assert_array_equal(table, want_table)
    np.testing.assert_allclose(weights, want_weights, rtol=2e-5, atol=1e-7)
    want_asked = np.full((groups, tokens, choices), experts)
    for g, group in enumerate(seats if asks is None else asks):
        for s in group:
            want_asked[g, s.token, s.rank] = s.expert
    asked = np.asarray(plan.expert_index)
    if not ranked:
        where, want_where = np.sort(where), np.sort(want_where)
        asked, want_asked = np.sort(asked), np.sort(want_asked)
    np.testing.assert_array_equal(where, want_where)
    np.testing.assert_array_equal(asked, want_asked)
    for g, s in np.ndindex(groups, tokens):
        if logits is not None and (mask is None or mask[g, s]):
            np.testing.assert_allclose(
                probabilities[g, s], softmax(logits[g, s]), rtol=1e-5, atol=1e-7
            )
    check_views(plan, want_table, want_weights)


def check_views(plan, table, weights):
    """Asserts that the one-hot views show the table."""
    tokens = np.shape(plan.probabilities)[1]
    # [g, s, e, c]
    want = table[:, None] == np.arange(tokens)[:, None, None]
    mask = np.asarray(plan.dispatch_mask())
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, want)
    dispatch = plan.dispatch_array()
    assert dispatch.dtype == "float32"
    np.testing.assert_array_equal(dispatch, want.astype("float32"))
    np.testing.assert_allclose(
        plan.combine_array(), want * weights[:, None], rtol=2e-5, atol=1e-7
    )

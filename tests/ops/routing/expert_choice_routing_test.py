import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops import expert_choice_routing
from tests.covering import covering
from tests.ops.routing.routing_case import check_plan
from tests.ops.routing.routing_case import padding
from tests.ops.routing.routing_case import scores
from tests.reference import expert_choice
from tests.reference.seat import weight_matrix


def check(plan, logits, capacity, mask=None, **options):
    slots = min(capacity, logits.shape[1])
    rows = [None] * len(logits) if mask is None else mask
    seats = [
        expert_choice.route(logits[g], capacity, rows[g], **options)
        for g in range(len(logits))
    ]
    check_plan(plan, None, seats, slots, ranked=False)
    softmax_over = options.get("softmax_over", "experts")
    for g in range(len(logits)):
        want = expert_choice.scores(logits[g], rows[g], softmax_over)
        real = slice(None) if rows[g] is None else rows[g]
        np.testing.assert_allclose(
            np.asarray(plan.probabilities)[g][real],
            want[real],
            rtol=1e-5,
            atol=1e-7,
        )


@given(
    groups=st.integers(1, 2),
    tokens=st.integers(1, 8),
    experts=st.integers(1, 5),
    capacity=st.integers(1, 10),
    share=st.sampled_from([None, 0.0, 0.3, 0.8]),
    ties=st.booleans(),
    softmax_over=st.sampled_from(["experts", "tokens"]),
    normalization=st.sampled_from(["none", "mean"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=25)
def test_equals_the_loop(
    groups,
    tokens,
    experts,
    capacity,
    share,
    ties,
    softmax_over,
    normalization,
    seed,
):
    rng = np.random.default_rng(seed)
    logits = scores(groups, tokens, experts, rng, ties)
    mask = padding(groups, tokens, rng, share)
    options = {"softmax_over": softmax_over, "normalization": normalization}
    plan = expert_choice_routing(logits, capacity, mask, **options)
    check(plan, logits, capacity, mask, **options)


def test_all_tokens_tie():
    plan = expert_choice_routing(np.zeros((1, 6, 3), "float32"), 2)
    np.testing.assert_array_equal(plan.token_index[0], [[0, 1]] * 3)
    assert np.all(np.sort(plan.expert_index[0, 0]) == [0, 1, 2])


@pytest.mark.parametrize("jit", [False, True])
def test_slots_stay_empty_where_tokens_are_few(jit):
    rng = np.random.default_rng(0)
    logits = scores(2, 6, 3, rng)
    mask = np.array([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)
    route = tf.function(expert_choice_routing, jit_compile=jit, autograph=False)
    plan = route(tf.constant(logits), 4, tf.constant(mask))
    check(plan, logits, 4, mask)
    filled = (np.asarray(plan.token_index) < 6).sum((1, 2))
    np.testing.assert_array_equal(filled, [6, 0])


@pytest.mark.parametrize(
    ("cap", "softmax_over", "poison"),
    covering(
        [None, 2],
        ["experts", "tokens"],
        [np.nan, np.inf, -np.inf, 1e30, -1e30],
    ),
)
def test_padding_has_no_say(cap, softmax_over, poison):
    rng = np.random.default_rng(1)
    logits, mask = scores(2, 7, 3, rng), padding(2, 7, rng, 0.6)
    loud = np.where(mask[..., None], logits, np.float32(poison))

    def run(logits):
        with tf.GradientTape() as tape:
            x = tf.constant(logits)
            tape.watch(x)
            plan = expert_choice_routing(
                x, 3, mask, cap, softmax_over=softmax_over, num_iterations=20
            )
            loss = tf.reduce_sum(tf.sin(9 * plan.combine_weight))
        return plan, np.asarray(tape.gradient(loss, x))

    (plan, gradient), (quiet, want) = run(loud), run(logits)
    for received, expected in (
        (plan.token_index, quiet.token_index),
        (plan.slot_index, quiet.slot_index),
        (plan.expert_index, quiet.expert_index),
    ):
        np.testing.assert_array_equal(received, expected)
    np.testing.assert_allclose(plan.combine_weight, quiet.combine_weight)
    np.testing.assert_allclose(gradient, want, atol=1e-7)
    assert not np.any(gradient[~mask])


@pytest.mark.parametrize("normalization", ["none", "mean"])
@pytest.mark.parametrize("softmax_over", ["experts", "tokens"])
def test_gradient_is_that_of_the_scores(softmax_over, normalization):
    rng = np.random.default_rng(2)
    logits = tf.constant(scores(2, 6, 3, rng))
    upstream = rng.normal(size=(2, 3, 3)).astype("float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        plan = expert_choice_routing(
            logits, 3, softmax_over=softmax_over, normalization=normalization
        )
        loss = tf.reduce_sum(plan.combine_weight * upstream)
        table = tf.nn.softmax(
            logits, axis=-1 if softmax_over != "tokens" else 1
        )
        if normalization == "mean":
            takers = tf.reduce_sum(plan.dispatch_array(), (2, 3))[..., None]
            table = tf.math.divide_no_nan(table, takers)
        slow = tf.einsum(
            "gse,gsec,gec->", table, plan.dispatch_array(), upstream
        )
    np.testing.assert_allclose(loss, slow, rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(loss, logits), tape.gradient(slow, logits), atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_computes_in_float32(dtype):
    logits = tf.cast(np.random.default_rng(3).normal(size=(1, 7, 3)), dtype)
    exact = np.asarray(tf.cast(logits, "float32"))
    check(expert_choice_routing(logits, 3), exact, 3)


@pytest.mark.parametrize(("cap", "jit"), [(None, False), (2, True)])
def test_unknown_shapes_in_a_graph(jit, cap):
    signature = [
        tf.TensorSpec([None, None, 3]),
        tf.TensorSpec([None, None], tf.bool),
    ]

    @tf.function(input_signature=signature, jit_compile=jit, autograph=False)
    def route(logits, mask):
        capacity = (tf.shape(logits)[1] + 1) // 2
        return expert_choice_routing(
            logits, capacity, mask, cap, num_iterations=20
        )

    rng = np.random.default_rng(4)
    # XLA compiles each shape anew.
    for groups, tokens in ((2, 7),) if jit else ((1, 4), (2, 7)):
        logits = scores(groups, tokens, 3, rng)
        mask = padding(groups, tokens, rng, 0.7)
        plan = route(logits, mask)
        if cap is None:
            check(plan, logits, (tokens + 1) // 2, mask)
        else:
            eager = expert_choice_routing(
                logits, (tokens + 1) // 2, mask, cap, num_iterations=20
            )
            np.testing.assert_array_equal(plan.token_index, eager.token_index)
            np.testing.assert_array_equal(plan.slot_index, eager.slot_index)


@pytest.mark.parametrize("cap", [None, 1])
@pytest.mark.parametrize("shape", [(1, 0, 4), (0, 5, 4), (0, 0, 4)])
def test_nothing_to_route(shape, cap):
    logits = np.zeros(shape, "float32")
    for mask in (None, np.zeros(shape[:2], bool)):
        plan = expert_choice_routing(logits, 2, mask, cap, num_iterations=20)
        assert plan.probabilities.shape == shape
        assert np.all(np.asarray(plan.token_index) == shape[1])
        assert not np.any(plan.combine_weight)


@given(
    tokens=st.integers(1, 10),
    experts=st.integers(1, 5),
    capacity=st.integers(1, 6),
    cap=st.integers(1, 5),
    share=st.sampled_from([None, 0.0, 0.5]),
    ties=st.booleans(),
    normalization=st.sampled_from(["none", "mean"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=15)
def test_no_token_goes_to_more_experts_than_its_cap(
    tokens, experts, capacity, cap, share, ties, normalization, seed
):
    rng = np.random.default_rng(seed)
    logits = scores(2, tokens, experts, rng, ties)
    mask = padding(2, tokens, rng, share)
    plan = expert_choice_routing(
        logits,
        capacity,
        mask,
        cap,
        normalization=normalization,
        num_iterations=10,
    )
    taken = np.asarray(plan.dispatch_mask())
    assert taken.sum((2, 3)).max(initial=0) <= cap  # tokens, by experts
    assert taken.sum(3).max(initial=0) <= 1  # once by each
    assert taken.sum(1).max(initial=0) <= 1  # one token a slot
    if mask is not None:
        assert not np.any(taken[~mask])
    # Whoever is taken weighs what the softmax says.
    for g, rows in enumerate(logits):
        real = None if mask is None else mask[g]
        want = expert_choice.scores(rows, real) * taken[g].any(-1)
        if normalization == "mean":
            want /= np.maximum(taken[g].any(-1).sum(-1, keepdims=True), 1)
        np.testing.assert_allclose(
            np.asarray(plan.combine_array())[g].sum(-1), want, rtol=2e-5
        )
    # The inverse is the inverse.
    slots = plan.token_index.shape[2]
    where, asked = np.asarray(plan.slot_index), np.asarray(plan.expert_index)
    assert where.shape[2] <= cap
    for g, s in np.ndindex(2, tokens):
        seats = np.argwhere(taken[g, s])
        want = sorted(e * slots + c for e, c in seats)
        held = where[g, s][where[g, s] < experts * slots]
        np.testing.assert_array_equal(np.sort(held), want)
        np.testing.assert_array_equal(
            np.sort(asked[g, s][asked[g, s] < experts]),
            [e for e, _ in sorted(map(tuple, seats))],
        )


def test_a_cap_of_all_experts_is_no_cap():
    logits = scores(3, 8, 3, np.random.default_rng(6))
    plan = expert_choice_routing(logits, 4, None, 3)
    for g, rows in enumerate(logits):
        np.testing.assert_allclose(
            np.asarray(plan.combine_array())[g].sum(-1),
            weight_matrix(expert_choice.route(rows, 4), 8, 3),
            rtol=2e-5,
        )


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_a_cap_costs_little_of_the_best_assignment(spread):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(4, 32, 4)) * spread).astype("float32")
    plan = expert_choice_routing(logits, 16, None, 2)
    received = float(np.sum(plan.combine_weight))
    tables = [expert_choice.scores(rows) for rows in logits]
    best = sum(expert_choice.best_assignment(t, 16, 2) for t in tables)
    assert received >= 0.95 * best
    assert np.mean(np.asarray(plan.token_index) < 32) >= 0.9


def test_a_cap_spreads_what_experts_fight_over():
    # Every expert likes the first two tokens best.
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(1, 12, 4)).astype("float32") * 0.3
    logits[0, :2] += 3.0
    free, capped = (
        np.asarray(
            expert_choice_routing(
                logits, 3, None, cap, softmax_over="tokens"
            ).dispatch_mask()[0]
        ).any(-1)
        for cap in (None, 1)
    )
    assert np.all(free[:2].sum(1) == 4)
    assert np.all(capped[:2].sum(1) == 1)
    # Those that were passed over are taken instead.
    assert capped.any(1).sum() > free.any(1).sum()
    assert capped.sum() >= 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logits": np.zeros((3, 4))}, r"`logits`.*\(3, 4\)"),
        ({"expert_capacity": 0}, "expert_capacity=0"),
        ({"expert_capacity": None}, "expert_capacity=None"),
        ({"padding_mask": np.ones((2, 3))}, r"`padding_mask`.*\(2, 3\)"),
        ({"max_experts_per_token": 0}, "max_experts_per_token=0"),
        ({"softmax_over": "all"}, "`softmax_over`.*tokens.*'all'"),
        ({"normalization": "sum"}, "`normalization`.*mean.*'sum'"),
        ({"entropy_weight": 0.0}, "entropy_weight=0.0"),
        ({"num_iterations": 0}, "num_iterations=0"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    given = {"logits": np.zeros((1, 3, 4)), "expert_capacity": 2}
    with pytest.raises(ValueError, match=message):
        expert_choice_routing(**{**given, **arguments})

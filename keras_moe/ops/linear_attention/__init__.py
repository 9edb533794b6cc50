"""Attention that is linear in length, in the log domain.

A key weighs `sum_i exp(b_i + a_i)` for a query, where `a` are log-features of
the key and `b` those of the query. Keys are summed up feature by feature, each
feature scaled by its own maximum over the keys. There is no epsilon: the
denominator of a row that sees a key is at least 1, and what no row sees has no
influence on a single bit.

Arrays are float32 `[b, n, g, t, ...]`: batch, key/value head, query head of
that key/value head (1 for keys), time. Values carry a one as their last entry:
what is summed of it is the denominator.
"""

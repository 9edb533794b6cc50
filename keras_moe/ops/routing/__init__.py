"""Which expert computes which token: plans, capacity, dispatch, combine."""

"""Measurements behind the claims: one file a claim, `python -m`."""

"""Measurements behind the claims: `python -m benchmarks.NAME`."""

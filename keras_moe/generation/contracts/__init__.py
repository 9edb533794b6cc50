"""Contracts between models and what decodes, trains or calibrates them."""

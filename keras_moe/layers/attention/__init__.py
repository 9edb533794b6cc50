"""Attention, exact and otherwise."""

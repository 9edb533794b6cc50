"""Layers whose outputs do not depend on the scale of all weights."""

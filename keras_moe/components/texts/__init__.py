"""Texts to ids and back: what Transform, Trainer and calibrators do to them."""

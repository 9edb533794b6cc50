"""Checkpoints: whole or not there, bit for bit, on whatever devices."""

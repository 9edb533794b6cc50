"""Checkpoints that other libraries wrote, and read."""

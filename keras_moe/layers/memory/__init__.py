"""Layers that read what earlier inputs have left."""

"""The embedded model server: `python -m keras_moe.serving.server`."""

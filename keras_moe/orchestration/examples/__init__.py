"""Examples on disk: split by a hash, in spans, whole or not at all."""

"""The parts of a Transformer block."""

"""T5-style encoder-decoder with experts."""

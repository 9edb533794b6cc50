"""Memory and speed of training on a dictionary that grows."""

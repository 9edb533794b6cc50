"""Other people's layers, each timed in an environment of its own."""

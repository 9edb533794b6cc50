"""Parts of the early-exit benchmark."""

"""Finding the inputs that matter, and leaving out the others."""

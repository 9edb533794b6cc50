"""Cost of a sparse layer, and of other people's in their environments."""

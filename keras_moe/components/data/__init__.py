"""Components that choose examples and label them."""

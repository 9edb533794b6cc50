"""A search that is learned: two encoders, negatives, and what is found."""

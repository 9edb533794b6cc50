"""What TFMA measures, and how its results are read."""

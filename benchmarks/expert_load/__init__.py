"""The picture of expert loads, with and without balancing."""

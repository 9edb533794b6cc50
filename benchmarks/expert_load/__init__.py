"""The loads of experts, with and without balancing."""

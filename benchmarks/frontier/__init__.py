"""Error over cost: static students, exits, cascades, and both together."""

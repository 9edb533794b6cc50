"""What several benchmarks need: reports, turns, data, environments."""

"""What several benchmarks need: reports, alternating timings, data."""

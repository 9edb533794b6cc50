"""Parts of `benchmarks.random_feature_attention`."""

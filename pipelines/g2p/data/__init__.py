"""From a pronouncing dictionary to split, verified TFRecord files."""

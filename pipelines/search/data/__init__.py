"""From the files of WordNet to split, verified TFRecord files."""

"""Error rates of sparse and dense models on the dictionary."""

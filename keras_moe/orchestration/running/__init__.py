"""How a pipeline is run, here or in a cluster, and what came of it."""

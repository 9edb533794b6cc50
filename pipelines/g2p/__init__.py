"""From a pronouncing dictionary to a served student: the demo's pipeline."""

"""From WordNet to a served reverse dictionary: a gloss finds its word."""

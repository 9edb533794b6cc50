"""How well a reverse dictionary finds words, held against BM25."""

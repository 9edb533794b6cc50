"""The grapheme-to-phoneme pipeline, from dictionary to pushed model."""

"""A pipeline of keras_moe: from pairs of texts to a served model."""

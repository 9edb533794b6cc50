"""Fewer examples, fewer answers of a teacher: what each is worth."""

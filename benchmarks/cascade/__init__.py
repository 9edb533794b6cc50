"""Cascades on WordNet: whom to ask, certified, and what it saves."""

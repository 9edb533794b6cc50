"""The client of a model server, embedded or stock."""

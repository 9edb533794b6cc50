"""The embedded model server under load, change and attack."""

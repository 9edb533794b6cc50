"""Parts of the sharding benchmark."""

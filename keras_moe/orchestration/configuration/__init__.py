"""What a run is told: sections of a YAML file, and flags over them."""

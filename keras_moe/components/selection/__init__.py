"""Which features examples keep."""

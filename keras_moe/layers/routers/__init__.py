"""Who goes to which expert."""

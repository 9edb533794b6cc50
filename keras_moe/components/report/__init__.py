"""What people read about a model before they trust it."""

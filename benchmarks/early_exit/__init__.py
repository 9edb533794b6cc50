"""What early exits save, and whether their certificates hold."""

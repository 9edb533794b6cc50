"""Cost and error of attention through random features."""

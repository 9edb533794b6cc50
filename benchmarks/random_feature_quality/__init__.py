"""What the noise of random features costs a model."""

"""What runs inside the pipeline's components."""

"""What the components of the pipeline run: text, training, export, search."""

"""What approximate top-k finds and costs, and what a saved index keeps."""

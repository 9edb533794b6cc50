"""What a small student keeps of its teacher."""

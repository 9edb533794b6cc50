"""Features that are picked, held against other ways to choose them."""

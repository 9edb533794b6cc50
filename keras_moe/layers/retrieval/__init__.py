"""Finding the best of many candidates for a query."""

"""The best of many scores, exactly or with a recall that is known."""

"""NaN and infinity in a training: found, and named after their layer."""

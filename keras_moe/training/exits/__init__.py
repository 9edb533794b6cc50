"""Models that wrap another while its exits are trained."""

"""The mixture-of-experts layer and its parts."""

"""Components that embed candidates, and build the index that is served."""

"""From a model to a version folder that a model server loads."""

"""What is raised for a file that is not as it was written."""


class DamagedFileError(ValueError):
    """A file is cut off, changed or of another kind."""

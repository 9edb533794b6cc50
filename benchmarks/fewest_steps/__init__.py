"""The fewest updates with which the demo's line ends with a pushed model."""

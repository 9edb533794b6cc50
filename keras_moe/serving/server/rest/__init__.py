"""The REST half of the TensorFlow Serving API."""

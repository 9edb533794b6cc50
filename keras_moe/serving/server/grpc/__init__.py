"""The gRPC half of the TensorFlow Serving API."""

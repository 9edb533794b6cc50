"""Tensors, signatures, states and errors, as TensorFlow Serving words them."""

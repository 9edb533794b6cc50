"""Names of a model's weights, and what is told by them."""

from keras_moe.weights._fingerprint import fingerprint as fingerprint
from keras_moe.weights._named_state import named_state as named_state
from keras_moe.weights._named_weights import named_weights as named_weights

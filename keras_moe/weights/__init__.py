"""Names of a model's weights; transfers and fingerprints that go by them."""

from keras_moe.weights._fingerprint import fingerprint as fingerprint
from keras_moe.weights._lazy_array import LazyArray as LazyArray
from keras_moe.weights._named_state import named_state as named_state
from keras_moe.weights._named_weights import named_weights as named_weights
from keras_moe.weights._recipe import Recipe as Recipe
from keras_moe.weights._transfer import transfer as transfer
from keras_moe.weights._transfer_report import TransferReport as TransferReport

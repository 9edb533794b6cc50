"""Indexes that find most of the best, and how much to let them read."""

from keras_moe.retrieval._block_index import BlockIndex as BlockIndex
from keras_moe.retrieval._faiss_index import FaissIndex as FaissIndex
from keras_moe.retrieval._frontier import OperatingPoint as OperatingPoint
from keras_moe.retrieval._index_tuner import IndexTuner as IndexTuner
from keras_moe.retrieval._levels import Level as Level
from keras_moe.retrieval._levels import TunableIndex as TunableIndex
from keras_moe.retrieval._levels import bytes_per_query as bytes_per_query
from keras_moe.retrieval._tuned_index import TunedIndex as TunedIndex

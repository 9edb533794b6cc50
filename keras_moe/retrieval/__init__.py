"""Indexes that find most of the best, and how much to let them read."""

from keras_moe.retrieval._block_index import BlockIndex as BlockIndex
from keras_moe.retrieval._confirmation import (
    confirmation_path as confirmation_path,
)
from keras_moe.retrieval._exact_search import Neighbors as Neighbors
from keras_moe.retrieval._exact_search import exact_search as exact_search
from keras_moe.retrieval._exact_search import recall_at_k as recall_at_k
from keras_moe.retrieval._exact_search import tie_slack as tie_slack
from keras_moe.retrieval._faiss_index import FaissIndex as FaissIndex
from keras_moe.retrieval._frontier import OperatingPoint as OperatingPoint
from keras_moe.retrieval._index_tuner import IndexTuner as IndexTuner
from keras_moe.retrieval._levels import Level as Level
from keras_moe.retrieval._levels import TunableIndex as TunableIndex
from keras_moe.retrieval._levels import bytes_per_query as bytes_per_query
from keras_moe.retrieval._ranks import ranks_within as ranks_within
from keras_moe.retrieval._tuned_index import TunedIndex as TunedIndex

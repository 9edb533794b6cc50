"""From one kind of model to another."""

from keras_moe.conversion._feed_forward_site import (
    FeedForwardSite as FeedForwardSite,
)
from keras_moe.conversion._find_feed_forwards import (
    find_feed_forwards as find_feed_forwards,
)
from keras_moe.conversion._linear_attention import (
    linear_attention as linear_attention,
)
from keras_moe.conversion._tree_attention import (
    tree_attention as tree_attention,
)
from keras_moe.conversion._upcycle import upcycle as upcycle
from keras_moe.conversion.checkpoints._load_hugging_face import (
    load_hugging_face as load_hugging_face,
)
from keras_moe.conversion.checkpoints._load_mesh_tensorflow import (
    load_mesh_tensorflow as load_mesh_tensorflow,
)
from keras_moe.conversion.checkpoints._load_t5x import load_t5x as load_t5x
from keras_moe.conversion.checkpoints._load_tokenizer import (
    load_tokenizer as load_tokenizer,
)
from keras_moe.conversion.checkpoints._save_hugging_face import (
    save_hugging_face as save_hugging_face,
)
from keras_moe.conversion.checkpoints._sentencepiece_tokenizer import (
    SentencePieceTokenizer as SentencePieceTokenizer,
)

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

"""From one kind of model to another."""

from keras_moe.conversion.feed_forward_site import (
    FeedForwardSite as FeedForwardSite,
)
from keras_moe.conversion.find_feed_forwards import (
    find_feed_forwards as find_feed_forwards,
)
from keras_moe.conversion.upcycle import upcycle as upcycle
from keras_moe.conversion.upcycling_report import (
    UpcyclingReport as UpcyclingReport,
)

"""Decoding loops over a model's step function."""

from keras_moe.generation._beam_search import BeamSearch as BeamSearch
from keras_moe.generation._decode import compile_decoder as compile_decoder
from keras_moe.generation._decode import decode as decode
from keras_moe.generation._decode import decode_from as decode_from
from keras_moe.generation._early_exit_decode import (
    early_exit_decode as early_exit_decode,
)
from keras_moe.generation._early_exit_policy import (
    EarlyExitPolicy as EarlyExitPolicy,
)
from keras_moe.generation._exit_confidence import (
    ExitConfidence as ExitConfidence,
)
from keras_moe.generation._greedy import Greedy as Greedy
from keras_moe.generation._sampling import Sampling as Sampling
from keras_moe.generation._self_speculative import (
    SelfSpeculative as SelfSpeculative,
)
from keras_moe.generation._token_by_token import TokenByToken as TokenByToken
from keras_moe.generation.contracts._answering import Answering as Answering
from keras_moe.generation.contracts._decodable import Decodable as Decodable
from keras_moe.generation.contracts._exiting import (
    ExitClassifying as ExitClassifying,
)
from keras_moe.generation.contracts._exiting import Exiting as Exiting
from keras_moe.generation.contracts._generative import (
    ExitingGenerative as ExitingGenerative,
)
from keras_moe.generation.contracts._generative import Generative as Generative
from keras_moe.generation.contracts._layerwise_decodable import (
    DecoderLayer as DecoderLayer,
)
from keras_moe.generation.contracts._layerwise_decodable import (
    DecoderStack as DecoderStack,
)
from keras_moe.generation.contracts._layerwise_decodable import (
    ExitingDecodable as ExitingDecodable,
)
from keras_moe.generation.contracts._layerwise_decodable import (
    LayerwiseDecodable as LayerwiseDecodable,
)
from keras_moe.generation.contracts._sequence_config import (
    DecoderConfig as DecoderConfig,
)
from keras_moe.generation.contracts._sequence_config import (
    ExitConfig as ExitConfig,
)
from keras_moe.generation.contracts._sequence_config import (
    SequenceConfig as SequenceConfig,
)
from keras_moe.generation.contracts._strategy import Strategy as Strategy

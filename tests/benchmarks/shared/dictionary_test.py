import numpy as np

from benchmarks.shared.dictionary import make_pairs
from pipelines.g2p.modules import text


def test_each_listed_pronunciation_makes_a_pair():
    source, target = make_pairs(
        [("cat", ("K AE T",)), ("read", ("R IY D", "R EH D"))]
    )
    assert len(source) == len(target) == 3
    np.testing.assert_array_equal(source[1], source[2])
    assert (source[0] != source[1]).any()
    said = [answer.decode() for answer in text.decode_phonemes(target).numpy()]
    assert said == ["K AE T", "R IY D", "R EH D"]

"""Training holds the logits of one exit at a time in memory."""

from tests import forked

PEAKS = """
import types
import keras, numpy as np
from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer

EXITS, VOCABULARY, DIM, TOKENS = 5, 20_000, 8, 128

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(
            num_decoder_layers=EXITS, model_dim=DIM
        )
        self.blocks = [keras.layers.Dense(DIM) for _ in range(EXITS)]
        self.head = keras.layers.Dense(VOCABULARY)
        for layer in (*self.blocks, self.head):
            layer.build((None, None, DIM))
        self.built = True
    def exit_states(self, x, layers, training=None):
        states = [x := block(x) for block in self.blocks]
        return [states[layer - 1] for layer in layers]
    def logits(self, hidden):
        return self.head(hidden)

class Straight(EarlyExitTrainer):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return sum(
            weight * token_crossentropy(y, self.model.logits(state))
            for weight, state in zip(self.exit_weights, y_pred, strict=True)
        )

def train(cls, tokens, eager):
    trainer = cls(Model())
    trainer.compile("sgd", token_crossentropy, run_eagerly=eager)
    x = np.random.normal(size=(1, tokens, DIM)).astype("float32")
    trainer.train_on_batch(x, np.ones((1, tokens)))
    return peak()

def peak():
    # Not `ru_maxrss`: that begins at the peak of whoever started the process.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])

start = train(EarlyExitTrainer, 2, False)
train(EarlyExitTrainer, 2, True)
# The peak of a process only grows: the thriftiest first.
for cls, eager in (
    (EarlyExitTrainer, False), (EarlyExitTrainer, True), (Straight, True)
):
    print((train(cls, TOKENS, eager) - start) / (4 * VOCABULARY * TOKENS))
"""


def test_logits_of_all_exits_are_never_kept():
    ran = forked.run_text(PEAKS)
    assert ran.returncode == 0, ran.stderr
    graph, eager, straight = map(float, ran.stdout.split())
    # In units of one exit's logits. All logits at once, and what their
    # gradients need, are several times the number of exits.
    assert straight > 3 * 5
    assert graph < straight / 2
    assert eager < straight / 2

"""Sentences from latent vectors and back: recurrent networks on the numbers of words (2006.08205, section 4.2).

A sentence is a row of word numbers: 0 is padding, 1 the end, 2 an unknown word, 3 and on the others. Its last word is
the end, after which there is padding alone.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from pipeline.batch import Batch, Spec
from pipeline.errors import InputError
from pipeline.nets.sizes import require_at_least

END = 1
"""The number of the word that ends a sentence."""


class SentenceDecoder(nn.Module):
    """p(x|z) of sentences, word by word: a GRU that is told z in its first state and at every word.

    So are the scores of the next word (a skip, 1807.04863), or z comes to be ignored.

    Words are scored by their embeddings (tied weights) and a bias that begins as the logarithm of their frequency. A
    sentence that has not ended before the last of `longest` places ends there, so that the probabilities of all
    sentences add up to 1. Dropout, of embeddings and before the scores, is there while the network learns alone.

    Raises:
        InputError: no width, no latent dimension, or data without words.
    """

    def __init__(self, latent_dim: int, spec: Spec, width: int, dropout: float = 0.3):
        super().__init__()
        require_at_least(2, width=width)
        require_at_least(1, latent_dim=latent_dim)
        if spec.shape[0] < 2 or len(spec.frequency) < 3:
            raise InputError("the data have no words")
        self.longest, inner = spec.shape[0], width // 2
        self.embedding = _embedding(len(spec.frequency), inner)
        self.first = nn.Linear(latent_dim, width)
        self.gru = nn.GRU(inner + latent_dim, width, batch_first=True)
        self.last = nn.Linear(width + latent_dim, inner)
        self.bias = nn.Parameter(torch.tensor(spec.frequency[1:], dtype=torch.float32).clamp(min=1e-6).log())
        self.dropout = nn.Dropout(dropout)

    def loss(self, z: Float[Tensor, "n d"], items: Batch, sigma: float) -> Float[Tensor, " n"]:
        """-log p(x|z) of each sentence in nats, its end included; `sigma` is not used."""
        x = items["x"][:, : self.longest - 1]
        x = x[:, : int((x > 0).sum(1).max())]  # the rest is padding in every sentence
        known = x > 0
        hidden, _ = self._read(pad(x, (1, 0))[:, :-1], z, self._state(z))
        z = z[:, None].expand(-1, x.shape[1], -1)
        nats = cross_entropy(self._scores(hidden[known], z[known]), x[known] - 1, reduction="none")
        return torch.zeros_like(known, dtype=nats.dtype).masked_scatter(known, nats).sum(1)

    def metrics(self, loss: Float[Tensor, " n"], items: Batch, sigma: float) -> dict[str, Float[Tensor, " n"]]:
        """`nll_nats_per_word` a word, the end counted as one."""
        return {"nll_nats_per_word": loss / items["length"]}

    def sample(self, z: Float[Tensor, "n d"], rng: torch.Generator) -> Int64[Tensor, "n longest"]:
        """Sentences of p(x|z), each word drawn after those before it."""
        x = torch.zeros(len(z), self.longest, dtype=torch.int64, device=z.device)
        word, state, running = x[:, 0], self._state(z), torch.ones_like(x[:, 0], dtype=torch.bool)
        for place in range(self.longest - 1):
            hidden, state = self._read(word[:, None], z, state)
            drawn = torch.multinomial(self._scores(hidden[:, 0], z).softmax(1), 1, generator=rng)[:, 0] + 1
            word = x[:, place] = drawn * running
            running = running & (word != END)
            if not running.any():
                break
        x[:, -1] = running * END
        return x

    def _state(self, z: Tensor) -> Tensor:
        return self.first(z).tanh()[None]

    def _read(self, words: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dropout(self.embedding(words))
        return _run(self.gru, torch.cat([embedded, z[:, None].expand(-1, words.shape[1], -1)], 2), state)

    def _scores(self, hidden: Float[Tensor, "m width"], z: Float[Tensor, "m d"]) -> Float[Tensor, "m words"]:
        """Logarithms of probabilities, up to a term that is the same for all, of the words 1, 2, ... (no padding)."""
        return self.last(torch.cat([self.dropout(hidden), z], 1)) @ self.embedding.weight[1:].T + self.bias


class SentenceEncoder(nn.Module):
    """Sentences -> (mean, log sd) of a Gaussian over z, each (n, d): a GRU's state at the end of the sentence.

    The log standard deviation is bounded softly to [-6, 6], as that of other encoders.

    Raises:
        InputError: no width, or no latent dimension.
    """

    def __init__(self, spec: Spec, latent_dim: int, width: int, dropout: float = 0.0):
        super().__init__()
        require_at_least(2, width=width)
        require_at_least(1, latent_dim=latent_dim)
        self.embedding = _embedding(len(spec.frequency), width // 2)
        self.gru = nn.GRU(width // 2, width, batch_first=True)
        self.last = nn.Linear(width, 2 * latent_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Int64[Tensor, "n longest"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Mean and log standard deviation."""
        length = (x > 0).sum(1)
        embedded = self.dropout(self.embedding(x[:, : int(length.max())]))
        hidden, _ = _run(self.gru, embedded, embedded.new_zeros(1, len(x), self.gru.hidden_size))
        mean, log_sd = self.last(hidden[torch.arange(len(x), device=x.device), length - 1]).chunk(2, 1)
        return mean, 6 * (log_sd / 6).tanh()


def _embedding(words: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(words, size)
    nn.init.normal_(embedding.weight, std=0.1)  # small, so that the scores of a new network are the bias's
    return embedding


def _run(gru: nn.GRU, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    # cuDNN's recurrent networks have no gradient in eval mode, and networks that move chains are in eval mode; torch's
    # own kernels have. On a CPU they take half the time of a loop of GRUCells, as they take all inputs at once.
    with torch.backends.cudnn.flags(enabled=False):
        hidden, last = gru(x, state)
    return hidden, last

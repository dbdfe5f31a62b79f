"""Sentences from latent vectors and back: recurrent networks on word numbers (2006.08205, section 4.2).

A sentence is a row of word numbers: 0 is padding, 1 the end, 2 an unknown word, 3 and above the other words. The end is
its last word; after it there is only padding.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from pipeline.batch import Batch, Spec
from pipeline.errors import InputError
from pipeline.nets.sizes import require_at_least

END = 1
"""Number of the word that ends a sentence."""


class SentenceDecoder(nn.Module):
    """p(x|z) of sentences, word by word: a GRU whose first state and whose inputs depend on z.

    The scores of the next word depend on z directly, too (a skip connection, 1807.04863), since otherwise the decoder
    learns to ignore z. They are products with the word embeddings (tied weights), plus a bias that is initialised to
    the log frequency of the words. A sentence that has not ended before the last of `longest` places ends there, so
    that the probabilities of all sentences sum to 1. In training mode there is dropout on embeddings and before the
    scores.

    Raises:
        InputError: `width` is below 2, `latent_dim` is below 1, or the data have no words.
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
        """-log p(x|z) of each sentence in nats, including its end; `sigma` is not used.

        The items as they are, or with their words located (`locate_words`).
        """
        items = items if "row" in items else self.locate_words(items)
        x, words = items["x"], (items["row"], items["place"])
        hidden, _ = self._read(pad(x, (1, 0))[:, :-1], z, self._initial_state(z))
        z = z[:, None].expand(-1, x.shape[1], -1)
        nats = cross_entropy(self._scores(hidden[words], z[words]), x[words] - 1, reduction="none")
        return torch.zeros_like(x, dtype=nats.dtype).index_put(words, nats).sum(1)

    def locate_words(self, items: Batch) -> Batch:
        """Sentences as long as the longest, and the `row` and `place` of every word: what the host waits for on a GPU.

        Once for many losses of the same items; a sentence's last place is left out, where it can only end.
        """
        is_word = items["x"][:, : self.longest - 1] > 0
        length = int(is_word.sum(1).max())  # the other places are padding in every sentence
        row, place = is_word[:, :length].nonzero(as_tuple=True)
        return {**items, "x": items["x"][:, :length], "row": row, "place": place}

    def metrics(self, loss: Float[Tensor, " n"], items: Batch, sigma: float) -> dict[str, Float[Tensor, " n"]]:
        """`nll_nats_per_word`, where the end counts as a word."""
        return {"nll_nats_per_word": loss / items["length"]}

    def sample(self, z: Float[Tensor, "n d"], rng: torch.Generator) -> Int64[Tensor, "n longest"]:
        """Sentences from p(x|z), sampled word by word."""
        x = torch.zeros(len(z), self.longest, dtype=torch.int64, device=z.device)
        word, state, running = x[:, 0], self._initial_state(z), torch.ones_like(x[:, 0], dtype=torch.bool)
        for place in range(self.longest - 1):
            hidden, state = self._read(word[:, None], z, state)
            next_word = torch.multinomial(self._scores(hidden[:, 0], z).softmax(1), 1, generator=rng)[:, 0] + 1
            word = x[:, place] = next_word * running
            running = running & (word != END)
            if not running.any():
                break
        x[:, -1] = running * END
        return x

    def _initial_state(self, z: Tensor) -> Tensor:
        return self.first(z).tanh()[None]

    def _read(self, words: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dropout(self.embedding(words))
        return _run_gru(self.gru, torch.cat([embedded, z[:, None].expand(-1, words.shape[1], -1)], 2), state)

    def _scores(self, hidden: Float[Tensor, "m width"], z: Float[Tensor, "m d"]) -> Float[Tensor, "m words"]:
        """Unnormalised log-probabilities of the words 1, 2, ... (padding has none)."""
        return self.last(torch.cat([self.dropout(hidden), z], 1)) @ self.embedding.weight[1:].T + self.bias


class SentenceEncoder(nn.Module):
    """Sentences -> (mean, log sd) of a Gaussian over z, each (n, d), from a GRU's state at the end of the sentence.

    The log standard deviation is softly bounded to [-6, 6], as in the other encoders.

    Raises:
        InputError: `width` is below 2, or `latent_dim` is below 1.
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
        hidden, _ = _run_gru(self.gru, embedded, embedded.new_zeros(1, len(x), self.gru.hidden_size))
        mean, log_sd = self.last(hidden[torch.arange(len(x), device=x.device), length - 1]).chunk(2, 1)
        return mean, 6 * (log_sd / 6).tanh()


def _embedding(words: int, size: int) -> nn.Embedding:
    embedding = nn.Embedding(words, size)
    nn.init.normal_(embedding.weight, std=0.1)  # small, so that the bias dominates the scores of a new network
    return embedding


def _run_gru(gru: nn.GRU, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    # cuDNN's recurrent networks cannot be differentiated in eval mode, in which networks move chains; torch's own
    # kernels can. On a CPU they take half the time of a loop over GRUCells, since they process all inputs at once.
    with torch.backends.cudnn.flags(enabled=False):
        hidden, last = gru(x, state)
    return hidden, last

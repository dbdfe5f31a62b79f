"""Energies of a latent vector and a symbol, by a head of K scores F(z) (2010.09359, section 3).

p(y, z) ~ exp(F(z)_y + (t - 1) f(z)) N(z; 0, I) with f(z) = log sum_k exp(F(z)_k): at t = 1 the paper's coupling. So
p(z) ~ exp(t f(z)) N(z; 0, I), and p(y|z) = softmax F(z) at any t; at t = 0 the prior is N(0, I).
"""

from collections.abc import Mapping

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.batch import Batch
from pipeline.energies.energy import Energy


def marginal(head: nn.Module, tilt: float) -> Energy:
    """-t f(z), which tilts N(0, I) to p(z)."""

    def energy(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return -tilt * head(z).logsumexp(1)

    return energy


def joint(head: nn.Module, tilt: float, label: Int64[Tensor, " n"]) -> Energy:
    """-F(z)_y - (t - 1) f(z) of n vectors and the labels y of each, which tilts N(0, I) to p(y, z).

    All labels have the normaliser of the marginal, of which these are the parts.
    """

    def energy(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        scores = head(z)
        return -scores.gather(1, label[:, None]).squeeze(1) - (tilt - 1) * scores.logsumexp(1)

    return energy


def label_metrics(nets: Mapping[str, nn.Module], items: Batch | None) -> dict[str, Float[Tensor, " n"]]:
    """`cross_entropy` -log p(y|z) in nats and `accuracy`, 0 or 1, of items with labels, at the encoder's mean."""
    if items is None or "label" not in items:
        return {}
    return classification_metrics(nets["energy"](nets["encoder"](items["x"])[0]), items["label"])


def classification_metrics(scores: Float[Tensor, "n k"], label: Int64[Tensor, " n"]) -> dict[str, Float[Tensor, " n"]]:
    """`cross_entropy` -log p(y) in nats and `accuracy`, 0 or 1, of labels y under p = softmax of the scores."""
    right = (scores.argmax(1) == label).to(scores.dtype)
    return {"cross_entropy": cross_entropy(scores, label, reduction="none"), "accuracy": right}


def symbol_usage(scores: Float[Tensor, "n k"]) -> dict[str, Float[Tensor, ""]]:
    """How symbols are used by n vectors, in nats: `entropy` H(y) and `information` I(z; y) = H(y) - H(y|z).

    H(y) is of the mean of p(y|z): log K where all symbols are used alike, 0 where one alone is.
    """
    log_p = scores.log_softmax(1)
    mean = log_p.logsumexp(0) - log_p.new_tensor(len(log_p)).log()
    entropy = -(mean.exp() * mean).sum()
    return {"entropy": entropy, "information": entropy + (log_p.exp() * log_p).sum(1).mean()}

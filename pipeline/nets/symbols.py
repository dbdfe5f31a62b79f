"""Energies of a latent vector and a symbol, by a head F(z) of K scores (2010.09359, section 3).

p(y, z) ~ exp(F(z)_y + (t - 1) f(z)) N(z; 0, I) with f(z) = log sum_k exp F(z)_k; tilt t = 1 is the paper's coupling.
So p(z) ~ exp(t f(z)) N(z; 0, I), and p(y|z) = softmax F(z) for every t; at t = 0 the prior is N(0, I).
"""

from collections.abc import Mapping

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.mlp import MLP


def labelled_classes(spec: Spec, labelled_batch_size: int) -> int:
    """Number of classes that learning knows labels of: those of the data, or 0 where no labelled items are used.

    Raises:
        InputError: labelled items are used, but the data have no labels.
    """
    if labelled_batch_size and not spec.num_classes:
        raise InputError("the data have no labels; 0 learns without", "labelled_batch_size", labelled_batch_size)
    return spec.num_classes if labelled_batch_size else 0


def build_head(latent_dim: int, symbols: int, labels: int, leaky_slope: float) -> MLP:
    """F, an MLP with two hidden layers of 200 units. Raises InputError for fewer symbols than labels, or none."""
    least = max(labels, 1)
    if symbols < least:
        raise InputError(f"must be {least} or more, so that each label has its own", "symbols", symbols)
    return MLP(latent_dim, (200, 200), symbols, leaky_slope)


def marginal(head: nn.Module, tilt: float) -> Energy:
    """-t f(z), which tilts N(0, I) to p(z)."""

    def energy(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        return -tilt * head(z).logsumexp(1)

    return energy


def joint(head: nn.Module, tilt: float, label: Int64[Tensor, " n"]) -> Energy:
    """-F(z)_y - (t - 1) f(z) for n vectors with labels y, which tilts N(0, I) to p(y, z).

    Its normaliser is that of `marginal`, for every label.
    """

    def energy(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        scores = head(z)
        return -scores.gather(1, label[:, None]).squeeze(1) - (tilt - 1) * scores.logsumexp(1)

    return energy


def label_metrics(nets: Mapping[str, nn.Module], items: Batch | None) -> dict[str, Float[Tensor, " labelled"]]:
    """`classification_metrics` of items with labels at the encoder's mean; empty for items without labels."""
    if items is None or "label" not in items:
        return {}
    return classification_metrics(nets["energy"](nets["encoder"](items["x"])[0]), items["label"])


def classification_metrics(
    scores: Float[Tensor, "n k"], label: Int64[Tensor, " n"]
) -> dict[str, Float[Tensor, " labelled"]]:
    """For p = softmax of the scores: `cross_entropy` -log p(label) in nats, and `accuracy`, 0 or 1.

    Of the items that have a label; it is -1 where they have none.
    """
    if not (known := label >= 0).all():
        scores, label = scores[known], label[known]
    right = (scores.argmax(1) == label).to(scores.dtype)
    return {"cross_entropy": cross_entropy(scores, label, reduction="none"), "accuracy": right}


def symbol_usage(scores: Float[Tensor, "n k"]) -> dict[str, Float[Tensor, ""]]:
    """How n vectors use the symbols, in nats: `entropy` H(y), and `information` I(z; y) = H(y) - H(y|z).

    H(y) is the entropy of the mean of p(y|z): log K where all symbols are used equally, 0 where only one is used.
    """
    log_p = scores.log_softmax(1)
    mean = log_p.logsumexp(0) - log_p.new_tensor(len(log_p)).log()
    entropy = -(mean.exp() * mean).sum()
    return {"entropy": entropy, "information": entropy + (log_p.exp() * log_p).sum(1).mean()}

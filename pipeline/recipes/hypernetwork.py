"""A Generative Model for Sampling High-Performance and Diverse Weights for Neural Networks.

Lior Deutsch, Erik Nijkamp, Yu Yang. arXiv:1905.02898. The objective is eq. 6, the algorithm that of the authors' code.

A hypernetwork G makes the weights w = G(z) of a classifier from noise z ~ U[-1, 1]^d. The energy of weights is the
classifier's cross entropy, lambda its inverse temperature, and G minimises lambda E[cross entropy] - H[w]. The entropy
H is estimated from the distances between the weights sampled at one update, after those symmetries of weights are
removed that leave a classifier as it is. Samples are weights: one per classifier, a member of an ensemble.

Deviations from the paper and its code:
1. The gauge `full` fixes more than the paper's (`nets/gauge.py`), in which entropy rises by the scale of the logits.
2. The gauge `paper` makes the mean of the last biases 0, as the paper says; its code subtracts their sum.
3. No batch normalisation, which would couple the samples: only the entropy does, within a lane.
4. Layers start with weights of order 1 / sqrt(fan-in). All generators have the same hidden widths, and biases.
5. Data are centred by the mean of the first batch, and may be noisy (`data_noise`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import LABELLED, Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.energies.entropy import nearest_neighbour_entropy
from pipeline.nets.classifier import ClassifierSettings, build_classifier
from pipeline.nets.gauge import Gauge, fix_gauge
from pipeline.nets.hypernetwork import Hypernetwork, HypernetworkSettings, hypernetwork_of
from pipeline.nets.symbols import classification_metrics
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, LossesAndMetrics, Metrics, Recipe
from pipeline.rng import initial_noise, standard_normal
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Decay, NonNegative, Positive, PositiveInt

ENSEMBLE = 30
"""Members of the ensembles that `item_metrics` measures."""


@dataclass(frozen=True)
class HypernetworkEnsemble(Recipe):
    """A hypernetwork that samples classifiers.

    >>> nets = HypernetworkEnsemble().nets(Spec("image", (1, 8, 8), 10))
    >>> nets["hypernetwork"](torch.zeros(5, 32)).shape
    torch.Size([5, 610])
    """

    batch_size: PositiveInt = 384
    """Labelled items per update, over all lanes; a lane deals its part to the classifiers that it samples."""
    members: Annotated[int, Field(ge=2)] = 24
    """Classifiers sampled per update, in each lane; entropy is estimated from these."""
    accuracy_weight: Positive = 300.0
    """lambda: the weight of the cross entropy (nats per item) against the entropy (nats)."""
    data_noise: NonNegative = 0.0
    """Standard deviation of the noise added to items; 0 in the paper. Without it entropy is gained by the weights of
    coordinates that hardly vary in the training items."""
    gauge: Gauge = "full"
    """Symmetries that are removed before entropy is estimated: all that are known, the paper's, or none."""
    classifier: ClassifierSettings = ClassifierSettings()
    hypernetwork: HypernetworkSettings = HypernetworkSettings()
    lr: NonNegative = 1e-2
    """Learning rate of Adam at the start."""
    lr_decay: Decay = 1.0
    """Factor of the learning rate at each update; 1: it is constant."""

    @property
    def streams(self) -> Mapping[str, int]:
        """Items whose label is known."""
        return {LABELLED: self.batch_size}

    @property
    def samples_are_data(self) -> bool:
        """Samples are weights."""
        return False

    def nets(self, spec: Spec) -> Nets:
        """G."""
        return {"hypernetwork": Hypernetwork(build_classifier(self.classifier, spec), self.hypernetwork, spec.shape)}

    def data_dependent_init(self, nets: Nets, batch: Batches, rng: torch.Generator, pretrained: frozenset[str]) -> None:
        """Centre the data by the batch's mean."""
        if "hypernetwork" not in pretrained:
            hypernetwork_of(nets).center.copy_(batch[LABELLED]["x"].mean(0))

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam with its default betas."""
        return {"hypernetwork": Adam(nets["hypernetwork"].parameters(), self.lr)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """Exponential decay."""
        return {"hypernetwork": self.lr_decay**update}

    def sampler(self, chain: str, nets: Nets, update: int) -> Langevin:
        """No steps."""
        return Langevin.textbook(0, 0.1)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor:
        """z ~ U[-1, 1]^d."""
        return initial_noise("uniform", (n, self.hypernetwork.noise_dim), rng)

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """Constant: the density of z is uniform."""
        return lambda z: 0 * z.sum(1)

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """The weights G(z), (n, p)."""
        return nets["hypernetwork"](x)

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """How well members classify, and how diverse they are."""
        return ("cross_entropy", "accuracy", "entropy")

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """Of items with a label: `accuracy` and `cross_entropy` of an ensemble's mean probability, and of its members.

        The ensemble has 30 members, which are sampled for the items of the call.
        """
        items, net = batch[LABELLED], hypernetwork_of(nets)
        if "label" not in items:
            return {}
        logits = net.logits(net(initial_noise("uniform", (ENSEMBLE, self.hypernetwork.noise_dim), rng)), items["x"])
        metrics = classification_metrics(logits.log_softmax(2).logsumexp(0), items["label"])
        each = [classification_metrics(one, items["label"]) for one in logits]
        return metrics | {f"member_{name}": torch.stack([one[name] for one in each]).mean(0) for name in metrics}

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """lambda E[cross entropy] - H[w] (eq. 6); each sampled classifier sees images of its own (code)."""
        net, m, items = hypernetwork_of(nets), self.members, batch[LABELLED]
        w = net(initial_noise("uniform", (m, self.hypernetwork.noise_dim), rng))
        deal = torch.arange(m * -(-len(items["x"]) // m), device=w.device).view(-1, m).T % len(items["x"])
        x = items["x"][deal] + self.data_noise * standard_normal((*deal.shape, *items["x"].shape[1:]), rng)
        logits = net.logits(w, x, own=True)
        metrics = classification_metrics(logits.flatten(0, 1), items["label"][deal].flatten())
        metrics = {name: values.mean() for name, values in metrics.items()}
        metrics["entropy"] = nearest_neighbour_entropy(
            fix_gauge(net.classifier, w, self.gauge), self.hypernetwork.noise_dim
        )
        metrics["logit_rms"] = logits.detach().square().mean().sqrt()
        return {"hypernetwork": self.accuracy_weight * metrics["cross_entropy"] - metrics["entropy"]}, metrics

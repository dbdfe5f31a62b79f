"""Recipe: what a paper is to the pipeline. One frozen dataclass each, whose fields are the paper's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.text import SentenceDecoder
from pipeline.nets.weights import Nets
from pipeline.rng import fold, seeded
from pipeline.samplers.kernel import Sampler, Stats


@dataclass(frozen=True)
class ChainSettings:
    """Where the chains of one name start, and how many move an update."""

    count: int
    """Chains an update, over all lanes."""
    context: str | None = None
    """The stream whose part of the batch travels with the task, or None."""
    bank: int | Literal["datum"] = 0
    """Persistent states over all lanes; 0: every chain starts anew (short-run); `datum`: one for each of the context's
    items, which go on from where they were left when their item comes again."""
    restart_prob: float = 0.0
    """Probability that a chain drawn from the bank starts anew."""


class ChainStates(NamedTuple):
    """Chains of one lane that have moved, as `Recipe.losses` sees them."""

    x: Tensor
    """(n, *d) states."""
    stats: Stats


@runtime_checkable
class Recipe(Protocol):
    """A paper: its networks, the targets of its chains, and its losses. No method keeps state."""

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """The chains it runs, by name; empty if the paper runs none."""
        ...

    @property
    def streams(self) -> Mapping[str, int]:
        """What a batch is made of: the number of items of each stream, over all lanes."""
        ...

    @property
    def sample_chain(self) -> str:
        """The chain whose states, decoded, are the model's samples; it need not be one that learning runs."""
        ...

    @property
    def frozen(self) -> frozenset[str]:
        """Networks that never learn, and so travel to whoever moves chains once; the default: none."""
        return frozenset()

    @property
    def requires_pretrained(self) -> frozenset[str]:
        """Networks that must have learned in another run (`Job.networks`); the default: none."""
        return frozenset()

    def nets(self, spec: Spec) -> Nets:
        """The networks, initialised from torch's global generator. Raises BadInput for data they cannot take."""
        ...

    def data_dependent_init(
        self, nets: Nets, batch: dict[str, Batch], rng: torch.Generator, given: frozenset[str]
    ) -> None:
        """Set, in place, what depends on data before learning begins; the default: nothing.

        Args:
            nets: as they were initialised, those `given` as another run has learned them (`Job.networks`).
            batch: lane 0's part of the first batch, on every rank alike.
            rng: alike on every rank.
            given: names of networks.
        """
        return None

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """One optimizer for each network that learns."""
        ...

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The networks whose turn it is, each with the factor of its learning rate; `last`: metrics of update - 1."""
        ...

    def sampler(self, chain: str, nets: Nets, update: int) -> Sampler:
        """The kernel that moves `chain`, asked when a task is drawn."""
        ...

    def inference_sampler(self, chain: str, nets: Nets, update: int) -> Sampler:
        """The kernel that moves a chain with a context for items that are held back; the default: that of learning."""
        return self.sampler(chain, nets, update)

    def initial_states(self, chain: str, n: int, rng: torch.Generator, nets: Nets, batch: dict[str, Batch]) -> Tensor:
        """(n, *d) fresh states of `chain`, drawn on the learner; `batch`: the lane's part of the batch."""
        ...

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """The energy under which `chain` moves."""
        ...

    def num_classes(self, spec: Spec) -> int:
        """How many classes the chain `class` draws samples of, whose context is their `label`; 0 (the default): none.

        It is asked for by `start`, `sampler` and `target` like the others, and decoded like the model's.
        """
        return 0

    def energy(self, nets: Nets) -> Energy | None:
        """Of data, at the temperature of the model's chains; None (the default) where the model has none."""
        return None

    def normalized_energies(self, nets: Nets) -> dict[str, Energy]:
        """Normalised energies of data beside `energy`, by name, at temperature 1; the default: none."""
        return {}

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """The data that states (n, *d) of the model's chains stand for; the default: themselves."""
        return x

    def encode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor | None:
        """States of the model's chains that stand for data x (n, *d), so that chains can start from them.

        None where there are none; the default: x itself, where the model has an energy of data.
        """
        return None if self.energy(nets) is None else x

    def item_metrics(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator
    ) -> dict[str, Tensor]:
        """(n,) numbers about each of n items of data, by name, for evaluation; the default: none.

        Names that mean the same everywhere: `mse` of the reconstruction, a coordinate; `accuracy`, 0 or 1; `energy` and
        others that begin so, high where an item is unlike the data; -log p in `nats`, or of images in `bits_per_dim` a
        dimension. `chains` are those that have a context: the items.
        """
        return {}

    def losses(
        self, nets: Nets, batch: dict[str, Batch], chains: Mapping[str, ChainStates], rng: torch.Generator, update: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """On one lane's part: a scalar loss for each player, and scalar metrics, the same names each time."""
        ...


def init_networks(recipe: Recipe, spec: Spec, seed: int, device: torch.device) -> Nets:
    """The recipe's networks with the initial weights that belong to a run's seed.

    Raises:
        BadInput: the data are not for the recipe.
    """
    with seeded(fold(seed, "nets")):
        nets = {name: net.to(device) for name, net in recipe.nets(spec).items()}
    if spec.kind == "text" and not isinstance(nets.get("generator"), SentenceDecoder):
        raise InputError(f"{type(recipe).__name__} does not learn from sentences: choose data of images or features")
    return nets

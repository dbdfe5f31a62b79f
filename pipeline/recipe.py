"""Recipe: the interface of a paper to the pipeline, a frozen dataclass whose fields are the paper's settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.batch import Batch, Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.generator import LatentLikelihood
from pipeline.nets.weights import Nets
from pipeline.rng import fold, seeded
from pipeline.samplers.kernel import Sampler, Stats
from pipeline.samplers.langevin import Langevin
from pipeline.settings import Count, PositiveInt, Probability, Settings, check_fields

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ChainSettings(Settings):
    """How many chains of one name move per update, and where they start.

    >>> from pipeline import Anatomy
    >>> Anatomy(batch_size=50, bank=1000).chains["model"] == ChainSettings(50, bank=1000)
    True
    """

    count: PositiveInt
    """Chains per update, over all lanes."""
    context: str | None = None
    """Stream whose part of the batch travels with each task and is passed to `target`; None: no stream."""
    bank: Count | Literal["datum"] = 0
    """Persistent states, over all lanes. 0: every chain starts anew (short-run). "datum": one state per item of the
    context, which continues whenever its item comes again."""
    restart_prob: Probability = 0.0
    """Probability that a chain drawn from the bank starts anew."""
    starts_from: str | None = None
    """Stream whose part of the batch is passed to `initial_states`; None: the context."""


class ChainStates(NamedTuple):
    """One lane's chains after their steps, as passed to `Recipe.losses`.

    >>> from pipeline import Langevin, gaussian
    >>> rng = torch.Generator().manual_seed(0)
    >>> states = ChainStates(*Langevin.textbook(10, 0.1)(gaussian(), torch.zeros(5, 2), rng))
    >>> states.x.shape, states.stats.energy.shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    x: Tensor
    """(n, *d) states."""
    stats: Stats
    carried: Mapping[str, Tensor] = {}
    """What the chains carry from their starts (`InitialStates`)."""


class InitialStates(NamedTuple):
    """Fresh states, with what their chains carry along and do not move: the latent vectors that made them, say.

    What is carried comes back with the chains (`ChainStates.carried`). Chains of a bank cannot carry anything.

    >>> from pipeline import Cooperative
    >>> recipe, spec = Cooperative(latent_dim=3, width=8), Spec("vector", (2,), 0)
    >>> states = recipe.initial_states("model", 5, torch.Generator(), recipe.nets(spec), spec, None)
    >>> states.x.shape, states.carried["z"].shape
    (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    x: Tensor
    """(n, *d) states."""
    carried: Mapping[str, Tensor]
    """By name, each of n rows."""


Batches: TypeAlias = dict[str, Batch]
"""A lane's part of each stream, by the stream's name."""
Chains: TypeAlias = Mapping[str, ChainStates]
"""A lane's chains, by name."""
Metrics: TypeAlias = dict[str, Tensor]
"""Metrics by name: (n,) of single items, or scalars."""
LossesAndMetrics: TypeAlias = tuple[dict[str, Tensor], Metrics]
"""Scalar losses by network, and scalar metrics."""


class Inspection(NamedTuple):
    """What a model's weights say by themselves, without samples or items of data."""

    metrics: Mapping[str, float] = MappingProxyType({})
    """By name; NaN where a number is not defined."""
    figures: Mapping[str, Callable[[], "Figure"]] = MappingProxyType({})
    """By name; drawn when called."""


@runtime_checkable
class Recipe(Protocol):
    """A paper: its networks, the targets of its chains, and its losses. Recipes are stateless.

    Subclasses are frozen dataclasses. `nets`, `optimizers` and `losses` must be defined, and a field `batch_size`; with
    chains also `sampler`, `initial_states` and `target`. The other members have defaults.

    >>> from pipeline import ShortRun
    >>> class Linear(ShortRun):
    ...     def nets(self, spec):
    ...         return {"energy": torch.nn.Sequential(torch.nn.Linear(spec.size, 1), torch.nn.Flatten(0))}
    >>> Linear(batch_size=20).chains["model"].count, list(Linear().nets(Spec("vector", (2,), 0)))
    (20, ['energy'])
    """

    def __post_init__(self) -> None:
        check_fields(self)

    # What the recipe consists of

    batch_size: int
    """Data items per update, over all lanes."""

    @property
    def chains(self) -> Mapping[str, ChainSettings]:
        """The chains that learning runs, by name; default: none."""
        return {}

    @property
    def streams(self) -> Mapping[str, int]:
        """The streams that a batch consists of, with their items per update over all lanes; default: `data`.

        The stream `labelled` (batch.LABELLED) holds the items whose label is known; every other stream holds all items.
        """
        return {"data": self.batch_size}

    @property
    def data_kinds(self) -> frozenset[str]:
        """Kinds of data (`Spec.kind`) that the recipe accepts; default: all but text."""
        return frozenset({"image", "vector", "counts"})

    @property
    def sample_chain(self) -> str:
        """The chain whose decoded states are the model's samples; default: `model`. Learning need not run it."""
        return "model"

    @property
    def class_chain(self) -> str | None:
        """The chain that samples a given class; its context is the `label`. Default: None."""
        return None

    def num_classes(self, spec: Spec) -> int:
        """Number of classes that `class_chain` can sample; default: 0."""
        return 0

    @property
    def frozen(self) -> frozenset[str]:
        """Names of networks that never learn, and so are sent to chain actors only once; default: none."""
        return frozenset()

    @property
    def requires_pretrained(self) -> frozenset[str]:
        """Names of networks that must come from another run (`Job.init_from`); default: none."""
        return frozenset()

    # Networks and optimizers

    def nets(self, spec: Spec) -> Nets:
        """The networks, initialised from torch's global generator. Raises InputError for data they cannot take."""
        ...

    def check_items(self, batch: Batch) -> None:
        """Raise InputError for items that the recipe cannot learn from, before anything is written; default: none."""
        return None

    def data_dependent_init(self, nets: Nets, batch: Batches, rng: torch.Generator, pretrained: frozenset[str]) -> None:
        """Set, in place, what depends on data before learning begins; default: nothing.

        Args:
            nets: the networks after initialisation; those named in `pretrained` come from another run.
            batch: lane 0's part of the first batch, the same on every rank.
            rng: the same on every rank.
            pretrained: names of the pretrained networks.
        """
        return None

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """One optimizer per network that learns."""
        ...

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float] | None:
        """Networks that learn in this update, each with the factor of its learning rate.

        Default: None, which is factor 1 for every network that has an optimizer. `last` holds the metrics of the update
        before, {} at update 0.
        """
        return None

    # Chains

    def sampler(self, chain: str, nets: Nets, update: int) -> Sampler:
        """The kernel that moves `chain`; default: no steps."""
        return Langevin.textbook(0, 0.1)

    def inference_sampler(self, chain: str, nets: Nets, update: int) -> Sampler:
        """The kernel that moves a chain with a context for held-out items; default: `sampler`."""
        return self.sampler(chain, nets, update)

    def initial_states(
        self, chain: str, n: int, rng: torch.Generator, nets: Nets, spec: Spec, context: Batch | None
    ) -> Tensor | InitialStates:
        """n fresh states (n, *d) of `chain`, drawn on the learner; or these with what they carry.

        `rng` is on the device where they are wanted; `context` is the lane's part of the stream that the chain's
        settings name (`starts_from`, `context`), or None. Raises InputError where the recipe has no such chain.
        """
        raise InputError(f"{type(self).__name__} has no chain {chain}, and so no samples")

    def target(self, chain: str, nets: Nets, context: Batch | None) -> Energy:
        """The energy under which `chain` moves: of each state by itself and its row of the context, as lanes may move
        as one batch. Raises InputError where the recipe has no such chain.
        """
        raise InputError(f"{type(self).__name__} has no chain {chain}, and so no samples")

    # From states to data and back

    @property
    def samples_are_data(self) -> bool:
        """Whether decoded states are like the items that the model learned from; default: yes.

        If not, samples are drawn and written as vectors, and never compared with data.
        """
        return True

    def energy(self, nets: Nets) -> Energy | None:
        """The model's energy of data, at the temperature of its chains; default: None (there is none)."""
        return None

    def normalized_energies(self, nets: Nets) -> dict[str, Energy]:
        """Normalised energies of data beside `energy`, by name, at temperature 1; default: none."""
        return {}

    def decode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor:
        """Samples (n, *shape) for states (n, *d) of the sample chain; they are data unless `samples_are_data` is False.

        Default: sampled by `likelihood`, or the states themselves.
        """
        model = self.likelihood(nets)
        return x if model is None else model.decoder.sample(x, rng)

    def encode(self, nets: Nets, x: Tensor, rng: torch.Generator) -> Tensor | None:
        """States of the sample chain for data x (n, *d), so that chains can start from data; None: impossible.

        Default: x itself where the model has an energy of data, else None.
        """
        return None if self.energy(nets) is None else x

    def likelihood(self, nets: Nets) -> LatentLikelihood | None:
        """p(x|z) of a latent-variable model; default: None."""
        return None

    # Learning and evaluation

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """(n,) metrics of single items of data, by name, for evaluation; default: none.

        Some names mean the same for all recipes: `mse` (squared reconstruction error per coordinate); `accuracy`
        (0 or 1); `energy` and names that begin with it (high where an item is unlike the data); -log p as `nll_nats`
        or, for images, `bits_per_dim`. `chains` holds the chains that have a context.
        """
        return {}

    def inspect(self, nets: Nets, rng: torch.Generator) -> Inspection:
        """Metrics and figures of the weights themselves, for evaluation; default: none."""
        return Inspection()

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """Names of the metrics in the progress line, where they exist; default: those of the energy's chains."""
        return ("energy/gap", "chains/grad_norm")

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """On one lane's part: a scalar loss per learning network, and scalar metrics, the same names every time.

        Loss k is differentiated with respect to network k only.
        """


def init_networks(recipe: Recipe, spec: Spec, seed: int, device: torch.device) -> Nets:
    """The recipe's networks, initialised from a run's seed.

    Raises:
        InputError: the recipe does not accept such data.
    """
    if spec.kind not in recipe.data_kinds:
        kinds = ", ".join(sorted(recipe.data_kinds))
        raise InputError(f"{type(recipe).__name__} does not learn from {spec.kind}, only from {kinds}", "data")
    with seeded(fold(seed, "nets")):
        return {name: net.to(device) for name, net in recipe.nets(spec).items()}

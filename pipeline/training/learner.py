"""Learner: one update on one rank, averaged over lanes and ranks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy import ndarray
from torch import Tensor

from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainResult, ChainResults, chain_states
from pipeline.errors import Diverged
from pipeline.nets.weights import flatten, partition
from pipeline.recipe import Batches, Recipe, init_networks
from pipeline.rng import fold, generator, seeded
from pipeline.samplers.langevin import Langevin
from pipeline.training.collective import gather
from pipeline.training.divergence import flagged_quantity, nonfinite_flag


class Learner:
    """The networks and optimizers of one rank, and its lanes.

    Gradients and metrics are computed lane by lane, summed pairwise over the lanes (i with i + half, so that the lanes
    of one rank meet first), then over the ranks in one all-reduce, and divided by the number of lanes. So with a power
    of two of lanes one and two learners are equal bit for bit.
    """

    def __init__(self, recipe: Recipe, spec: Spec, lanes: list[Lane], seed: int, device: torch.device):
        self.recipe, self.lanes, self.seed, self.device = recipe, lanes, seed, device
        self.attempt, self.lr_factor = 0, 1.0
        self.learning_rates: dict[str, float] = {}
        """Of the last update, by network; further groups of its parameters have a number. 0 where it did not learn."""
        self.frozen_weights: ndarray | None = None
        self.nets = init_networks(recipe, spec, seed, device)
        self.optimizers = recipe.optimizers(self.nets)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def set_recipe(self, recipe: Recipe) -> None:
        """Go on with a recipe of other settings: weights and moments stay, rates and the like are the recipe's own."""
        if recipe == self.recipe:
            return
        for name, optimizer in recipe.optimizers(self.nets).items():
            for group, new in zip(self.optimizers[name].param_groups, optimizer.param_groups, strict=True):
                group |= {key: value for key, value in new.items() if key != "params"}
                group["initial_lr"] = new["lr"]
        self.recipe = recipe

    def fold(self, what: str, update: int, lane: Lane) -> int:
        """The seed of `what` at an update on a lane."""
        return fold(self.seed, self.attempt, what, update, lane.index)

    def update(
        self,
        update: int,
        batches: Mapping[int, Batches],
        results: ChainResults,
        last: Mapping[str, float],
        fresh: bool = False,
    ) -> dict[str, float]:
        """Compute the losses on each lane's part, and step every network that learns; the metrics, averaged over lanes.

        Args:
            update: its number, from 0.
            batches: by index of the lane, by stream.
            results: the chains of this update, by (chain, index of the lane).
            last: the metrics of the update before; empty at update 0.
            fresh: whether the chains replace stale ones, and so have seeds of their own.

        Raises:
            Diverged: chain states, a loss, a gradient or the new weights are not finite; on all ranks alike.
        """
        factors = self._factors(update, last)
        parts = [self._lane(update, lane, batches[lane.index], results, factors) for lane in self.lanes]
        names, total = parts[0][0], _pairwise_sum([part for _, part in parts])
        if dist.is_initialized():
            dist.all_reduce(total)
        lanes = self.lanes[0].count
        gradient, tail = total[: -len(names) - lanes] / lanes, total[-len(names) - lanes :].tolist()
        self._stop_if_flagged(update, [round(f) for f in tail[len(names) :]], results, fresh)
        self._step(factors, gradient)
        if not torch.stack([p.isfinite().all() for net in self.nets.values() for p in net.parameters()]).all():
            raise Diverged("weights", update, update, -1, self.seed)
        return {name: value / lanes for name, value in zip(names, tail, strict=False)}

    def _factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """The networks that learn in this update, with the factors of their learning rates."""
        factors = self.recipe.learning_rate_factors(update, last)
        return dict.fromkeys(self.optimizers, 1.0) if factors is None else dict(factors)

    def _lane(
        self, update: int, lane: Lane, batch: Batches, results: ChainResults, factors: Mapping[str, float]
    ) -> tuple[list[str], Tensor]:
        """One lane's gradients, metrics and flag, as a vector; and the metrics' names."""
        own = {chain: results[chain, lane.index] for chain in self.recipe.chains}
        chains = {chain: chain_states(result, self.device) for chain, result in own.items()}
        metrics: dict[str, Any] = {}
        for chain, result in own.items():
            prefix = "chains" if len(own) == 1 else f"chains/{chain}"
            metrics |= {f"{prefix}/{k}": v for k, v in self._chain_metrics(update, chain, result, batch).items()}
        rng = generator(self.fold("losses", update, lane), self.device)
        for net in self.nets.values():
            net.train()
        with seeded(self.fold("global", update, lane), self.device):
            losses, extra = self.recipe.losses(self.nets, batch, chains, rng, update)
        metrics |= {f"loss/{k}": v for k, v in losses.items()} | extra
        gradient = torch.cat([g.flatten() for g in self._gradients({name: losses[name] for name in factors})])
        flags = torch.zeros(lane.count, device=self.device)
        flags[lane.index] = nonfinite_flag([c.x for c in chains.values()], list(losses.values()), [gradient])
        names = sorted(metrics)
        return names, torch.cat([gradient, _stack(metrics, names, self.device), flags])

    def _gradients(self, losses: Mapping[str, Tensor]) -> list[Tensor]:
        """The gradient of loss k in the parameters of network k, for all k, before any network changes."""
        gradient: list[Tensor] = []
        for i, (name, loss) in enumerate(losses.items()):
            own = _learnable(self.nets[name])
            gradient += torch.autograd.grad(loss, own, retain_graph=i + 1 < len(losses), materialize_grads=True)
        return gradient

    def _chain_metrics(self, update: int, chain: str, result: ChainResult, batch: Batches) -> dict[str, Any]:
        """Metrics of one lane's chains.

        `staleness`: sd of U_now(x) - U_then(x) in units of the sd of U_now(x); `staleness_ess`, at temperature 1: the
        effective share of the chains under weights exp(U_then - U_now); `step_ratio` and `gradient_to_noise` of
        Langevin chains.
        """
        metrics: dict[str, Any] = {
            "grad_norm": result.grad_norm.mean(),
            "acceptance_rate": result.acceptance_rate.mean(),
            "rms": np.sqrt(np.mean(np.square(result.x, dtype=np.float64))),
            "rms_displacement": result.rms_displacement,
            "lag": float(update - result.version),
            "staleness": 0.0,
            "temperature": result.temperature,
        }
        sampler = self.recipe.sampler(chain, self.nets, update)
        if isinstance(sampler, Langevin):
            grad_norm, dimensions = torch.tensor(result.grad_norm), result.x[0].size
            metrics["step_ratio"] = sampler.step_ratio(grad_norm, dimensions)
            if sampler.noise:
                metrics["gradient_to_noise"] = sampler.gradient_to_noise(grad_norm, dimensions)
        if result.version < update:
            now, then = self._energies(chain, result, batch)
            metrics["staleness"] = relative_change(now, then)
            if result.temperature == 1:
                ratio = (then - now).softmax(0)
                metrics["staleness_ess"] = 1 / ratio.square().sum() / len(ratio)
        return metrics

    def staleness(self, update: int, batches: Mapping[int, Batches], results: ChainResults) -> float:
        """How far the weights have left those that moved an update's chains; the same on every rank, and a barrier.

        Per chain the mean over all lanes of sd(U_now(x) - U_then(x)) / sd(U_now(x)), as logged; the greatest over the
        chains. 0 where the weights are the same; not finite where any lane's is not.
        """
        own = {
            (chain, lane.index): float(relative_change(*self._energies(chain, result, batches[lane.index])))
            for lane in self.lanes
            for chain in self.recipe.chains
            if (result := results[chain, lane.index]).version < update
        }
        by_lane = {key: value for part in gather(own) for key, value in part.items()}
        count = self.lanes[0].count  # summed in the order of the lanes, whichever rank they are on
        means = [sum(by_lane.get((chain, p), 0.0) for p in range(count)) / count for chain in self.recipe.chains]
        return float(np.max(means, initial=0.0))

    def _energies(self, chain: str, result: ChainResult, batch: Batches) -> tuple[Tensor, Tensor]:
        """(n,) energies of a lane's chains: under the present weights, and under those that moved them."""
        context = self.recipe.chains[chain].context
        for net in self.nets.values():
            net.eval()
        x, (then, *_), _ = chain_states(result, self.device)
        with torch.no_grad():
            now = self.recipe.target(chain, self.nets, batch[context] if context else None)(x).float()
        return now, then

    def _stop_if_flagged(self, update: int, flags: list[int], results: ChainResults, fresh: bool) -> None:
        for p, flag in enumerate(flags):
            if flag:
                version = next((result.version for result in results.values()), update)
                kind = "fresh chain" if fresh else "chain"
                what = next((f"{kind} {chain}" for chain in self.recipe.chains), "losses")
                seed = self.fold(what, update, Lane(p, len(flags)))
                raise Diverged(flagged_quantity(flag), update, version, p, seed)

    def _step(self, factors: Mapping[str, float], gradient: Tensor) -> None:
        i = 0
        for name in factors:
            for p in _learnable(self.nets[name]):
                p.grad = torch.empty_like(p).copy_(gradient[i : i + p.numel()].view(p.shape))
                i += p.numel()
        for name, optimizer in self.optimizers.items():
            for k, group in enumerate(optimizer.param_groups):
                if name in factors:
                    group["lr"] = group["initial_lr"] * factors[name] * self.lr_factor
                self.learning_rates[f"{name}/{k}" if k else name] = group["lr"] if name in factors else 0.0
        for name in factors:
            self.optimizers[name].step()

    def weights(self) -> tuple[ndarray, ndarray | None]:
        """The flat weights of the networks that learn, and of the frozen ones (the same array each time), or None."""
        learning, frozen = partition(self.nets, self.recipe.frozen)
        if frozen and self.frozen_weights is None:
            self.frozen_weights = flatten(frozen)
        return flatten(learning), self.frozen_weights

    def stop_if_diverged(self, in_flight: Mapping[int, ChainResults]) -> None:
        """Raise Diverged where a result, by update, is not finite, on any rank; on all ranks alike."""
        bad = [
            ("chain states", update, result.version, p, self.fold(f"chain {chain}", update, result.lane))
            for update, results in in_flight.items()
            for (chain, p), result in results.items()
            if not np.isfinite(result.x).all()
        ]
        if places := [place for places in gather(bad) for place in places]:
            raise Diverged(*min(places))

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimizers."""
        return {
            "networks": {name: net.state_dict() for name, net in self.nets.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over networks and optimizers; every tensor keeps the memory layout that it has here."""
        for name, net in self.nets.items():
            net.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for p, slots in optimizer.state.items():
                for key, value in slots.items():
                    if isinstance(value, Tensor) and value.shape == p.shape:
                        slots[key] = torch.empty_like(p).copy_(value)


def relative_change(now: Tensor, then: Tensor) -> Tensor:
    """sd(now - then) / sd(now) of energies (n,); a constant between them does not count."""
    return (now - then).std() / now.std()


def _stack(metrics: Mapping[str, Any], names: list[str], device: torch.device) -> Tensor:
    """The metrics as one vector; those that the host has computed go to the device together."""
    there = {name for name in names if isinstance(metrics[name], Tensor) and metrics[name].device.type == device.type}
    here = [name for name in names if name not in there]
    numbers = torch.tensor([float(metrics[name]) for name in here], dtype=torch.float32).to(device)
    by_name = dict(zip(here, numbers.unbind(), strict=True)) | {n: metrics[n].detach().float() for n in there}
    return torch.stack([by_name[name] for name in names])


def _learnable(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


def _pairwise_sum(parts: list[Tensor]) -> Tensor:
    while len(parts) > 1:
        half = (len(parts) + 1) // 2
        parts = [a + b for a, b in zip(parts, parts[half:], strict=False)] + parts[len(parts) - half : half]
    return parts[0]

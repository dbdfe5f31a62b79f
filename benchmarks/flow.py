"""What a flow costs that chains move behind: its part of a gradient, and its weights' travel, at every update or once.

Gradients are HMC's, of U(g(z)) + |z|^2/2 beside U(x) alone, with the networks that the presets of neural transport
begin with. The travel is that of an update with one actor and one chain of one step, from the learner's networks to
the answer, less the CPU seconds that the chain took: wall seconds, the least of the rounds. The last flow has the
paper's order of size.
"""

import time
from functools import partial

import numpy as np
import torch

from benchmarks.loops import DEVICE
from benchmarks.timing import Row, faster, in_turns, smaller
from jobs.neural_transport import PRESETS
from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainTask
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.cluster import connected
from pipeline.nets.flow import FlowSettings
from pipeline.nets.weights import eval_copy, flatten, partition
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.recipes.neural_transport import NeuralTransport
from pipeline.rng import generator
from pipeline.samplers.hmc import value_and_gradient
from pipeline.samplers.langevin import Langevin

SPECS = {
    "eight-gaussians": Spec("vector", (2,), 0),
    "digits": Spec("image", (1, 8, 8), 0),
    "mnist": Spec("image", (1, 28, 28), 0),
    "3x32x32": Spec("image", (3, 32, 32), 0),
}
RECIPES = {
    **{name: PRESETS[name].recipe for name in ("eight-gaussians", "digits", "mnist")},
    "3x32x32": NeuralTransport(flow=FlowSettings(couplings=8, scales=3, hidden=256)),
}
ROUNDS = 20


def gradients(name: str) -> Row:
    recipe, spec = RECIPES[name], SPECS[name]
    nets, n = eval_copy(init_networks(recipe, spec, 0, torch.device(DEVICE))), recipe.batch_size
    z = torch.randn(n, spec.size, generator=generator(1)).to(DEVICE)
    sides = {
        "through": partial(value_and_gradient, recipe.target("model", nets, None), z),
        "alone": partial(value_and_gradient, nets["energy"], nets["flow"](z)),
    }
    seconds = in_turns(sides, ROUNDS, DEVICE)
    rates = {side: n / spent for side, spent in seconds.items()}
    return faster(f"gradient through the flow, {name}, {n} chains: of U alone", "chains/s", *rates.values())


def travel(name: str) -> list[Row]:
    import ray

    from pipeline.distributed.actors import ChainActor

    recipe, spec = RECIPES[name], SPECS[name]
    nets = eval_copy(init_networks(recipe, spec, 0, torch.device("cpu")))
    learning, others = partition(nets, recipe.frozen)
    x, sampler = np.zeros((1, spec.size), np.float32), Langevin.textbook(1, 0.1)
    task = ChainTask("model", Lane(0, 1), np.arange(1), x, None, sampler, 0, 0)
    sides = {"once": (learning, flatten(others)), "always": (nets, None)}
    remote = ray.remote(num_cpus=0.1)(ChainActor)
    pools = {side: ActorPool([remote.remote(recipe, spec, 1)]) for side in sides}
    least = dict.fromkeys(sides, float("inf"))
    for update in range(ROUNDS + 2):  # of which the first two warm up, and send the flow
        for side, (sent, fixed) in sides.items():
            began = time.perf_counter()
            pools[side].submit(update, [task], flatten(sent), fixed)
            (answer,) = pools[side].collect(update).values()
            if update > 1:
                least[side] = min(least[side], time.perf_counter() - began - answer.cpu_seconds)
    for pool in pools.values():
        ray.kill(pool.actors[0])
    size = {side: flatten(sent).nbytes / 1e6 for side, (sent, _) in sides.items()}
    return [
        smaller(f"weights of an update, {name}, flow sent once: at every update", "MB", size["once"], size["always"]),
        smaller(
            f"their travel, {name}, flow sent once: at every update", "ms", 1e3 * least["once"], 1e3 * least["always"]
        ),
    ]


def rows() -> list[Row]:
    configure_process(1)  # as those do that move chains
    found = [gradients(name) for name in ("eight-gaussians", "digits", "mnist")]
    with connected():
        for name in ("digits", "mnist", "3x32x32"):
            found += travel(name)
    return found


if __name__ == "__main__":
    for row in rows():
        print(row)

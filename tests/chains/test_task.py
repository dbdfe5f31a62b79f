import numpy as np
import pytest
import torch
from running import CPU

from pipeline.batch import Spec
from pipeline.chains.bank import Bank, check_chains
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainTask, advance
from pipeline.errors import InputError
from pipeline.nets.weights import eval_copy
from pipeline.recipe import ChainSettings, init_networks
from pipeline.recipes.short_run import ShortRun
from pipeline.samplers.langevin import Langevin

LANE = Lane(1, 3)


def bank(restart_prob, states=30):
    return Bank(ChainSettings(6, bank=states, restart_prob=restart_prob), [LANE], 0)


def fresh(n=4):
    return np.full((n, 2), -1.0, np.float32)


def rounds(bank, n):
    """The slots and states of n draws; each state counts its moves, and is put back."""
    draws = []
    for seed in range(n):
        slots, x = bank.draw(LANE, 4, fresh, seed)
        draws.append((slots, x.copy()))
        bank.put(LANE, slots, np.where(x < 0, 1, x + 1).astype(np.float32))
    return draws


def test_with_restart_probability_one_every_chain_starts_anew():
    assert all((x == -1).all() for _, x in rounds(bank(1.0), 40))


def test_with_restart_probability_zero_every_slot_keeps_its_lineage():
    moves = dict.fromkeys(range(10), 0)
    for slots, x in rounds(bank(0.0), 40):
        for slot, state in zip(slots, x, strict=True):
            assert (state == (moves[slot] or -1)).all()
            moves[slot] += 1
    assert all(count > 5 for count in moves.values())


def test_chains_restart_with_the_restart_probability():
    draws = rounds(bank(0.3), 400)[10:]
    share = np.mean([(x[:, 0] == -1).mean() for _, x in draws])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (4 * len(draws)))


def test_only_chains_that_start_anew_have_initial_states():
    one, counts = bank(0.5), []
    for seed in range(40):
        slots, x = one.draw(LANE, 4, lambda n: counts.append(n) or fresh(n), seed)
        assert (counts.pop() if counts else 0) == (x[:, 0] == -1).sum()
        one.put(LANE, slots, np.ones_like(x))


def test_slots_are_drawn_without_replacement_and_not_while_in_flight():
    one = bank(0.0)
    first, _ = one.draw(LANE, 5, fresh, 0)
    second, _ = one.draw(LANE, 5, fresh, 1)
    assert sorted([*first, *second]) == list(range(10))
    with pytest.raises(ValueError, match="sample"):
        one.draw(LANE, 1, fresh, 2)


def test_with_draws_in_flight_no_slot_is_lost_or_drawn_twice():
    one, in_flight, moves = bank(0.0), [], np.zeros(10, int)
    for seed in range(60):
        in_flight.append(one.draw(LANE, 3, fresh, seed))
        slots = np.concatenate([slots for slots, _ in in_flight])
        assert len(set(slots)) == len(slots)
        if len(in_flight) > 2:  # lag 2
            slots, x = in_flight.pop(0)
            assert (x[:, 0] == np.where(moves[slots], moves[slots], -1)).all()
            moves[slots] += 1
            one.put(LANE, slots, np.repeat(moves[slots, None], 2, 1).astype(np.float32))
    assert moves.sum() == 3 * 58
    assert moves.min() > 0


def test_without_a_bank_chains_start_anew_each_time():
    assert all((x == -1).all() for _, x in rounds(bank(0.0, states=0), 5))


@pytest.mark.parametrize(
    ("settings", "lag", "complaint"),
    [
        (ChainSettings(6, bank=18), 2, ""),
        (ChainSettings(6, bank=17), 2, "bank=17: 6 model chains per update at lag 2 on 3 lanes need 18"),
        (ChainSettings(6, bank=18, restart_prob=0.5), 2, ""),
        (ChainSettings(6, restart_prob=0.5), 0, "restart_prob=0.5: needs a bank"),
        (ChainSettings(7), 0, "7 model chains per update cannot be split into 3 lanes"),
    ],
)
def test_a_bank_holds_what_can_be_in_flight(settings, lag, complaint):
    if complaint:
        with pytest.raises(InputError, match=complaint):
            check_chains({"model": settings}, 3, lag)
    else:
        check_chains({"model": settings}, 3, lag)


def test_advance_is_pure():
    recipe, spec = ShortRun(width=4), Spec("image", (1, 8, 8), 10)
    nets = eval_copy(init_networks(recipe, spec, 0, CPU))
    x = np.zeros((5, 1, 8, 8), np.float32)
    task = ChainTask("model", LANE, np.arange(5), x, None, Langevin(4, 1.0, 0.1), seed=7, version=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two = advance(recipe, nets, task), advance(recipe, nets, task)
    assert torch.equal(torch.get_rng_state(), before)
    assert (x == 0).all()
    assert np.array_equal(one.x, two.x)
    assert np.array_equal(one.energy, two.energy)
    assert (one.version, one.gradient_evaluations, one.lane) == (3, 20, LANE)
    other = advance(recipe, nets, task._replace(seed=8))
    assert not np.array_equal(one.x, other.x)

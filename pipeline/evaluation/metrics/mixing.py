"""How chains mix: rank-normalised split R-hat, effective sample sizes and autocorrelation, computed by ArviZ.

Aki Vehtari, Andrew Gelman, Daniel Simpson, Bob Carpenter, Paul-Christian Buerkner, "Rank-normalization, folding, and
localization: An improved R-hat for assessing convergence of MCMC", Bayesian Analysis 2021. A draw is the state of a
chain at one time. A quantity is a scalar function of a draw: an energy, a coordinate, a feature.
"""

import warnings
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Mixing(NamedTuple):
    """Statistics of q quantities; not a number where a quantity is constant or somewhere not finite."""

    rhat: Float[ndarray, " q"]
    """The greater of the rank-normalised split R-hat and that of the folded draws; 1 where chains mix."""
    ess_bulk: Float[ndarray, " q"]
    """Effective number of draws, over all chains, for the middle of the distribution."""
    ess_tail: Float[ndarray, " q"]
    """Effective number of draws for its tails: the lesser of those for the quantiles .05 and .95."""


def import_arviz() -> ModuleType:
    """ArviZ, imported at its first use because that takes seconds, without its daily notice of a coming version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def mixing(draws: Float[ndarray, "chains draws q"]) -> Mixing:
    """R-hat and effective sample sizes of each quantity, from at least 4 draws."""
    arviz = import_arviz()
    columns = [np.ascontiguousarray(draws[..., i], dtype=np.float64) for i in range(draws.shape[2])]
    rows = [(arviz.rhat(x), arviz.ess(x, method="bulk"), arviz.ess(x, method="tail")) for x in columns]
    return Mixing(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))


def autocorrelation(draws: Float[ndarray, "chains draws"]) -> Float[ndarray, " draws"]:
    """Autocorrelation at lag 0, 1, ..., draws - 1, centred within each chain and averaged over chains."""
    return np.asarray(import_arviz().autocorr(np.asarray(draws, np.float64), axis=-1)).mean(0)

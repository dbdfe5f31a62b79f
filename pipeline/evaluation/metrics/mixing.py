"""How chains mix, by ArviZ: rank-normalised split R-hat, bulk and tail effective sample size, autocorrelation.

Vehtari, Gelman, Simpson, Carpenter, Buerkner (Bayesian Analysis 2021). Draws are what chains are at, one after the
other; a scalar of them (an energy, a coordinate, a feature) is a quantity.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Mixing(NamedTuple):
    """Of each of q quantities; not a number where a quantity does not vary or is not finite somewhere."""

    rhat: Float[ndarray, " q"]
    """Greater of the rank-normalised split R-hat and that of the folded draws; 1 where chains have mixed."""
    ess_bulk: Float[ndarray, " q"]
    """Effective number of draws, over all chains, for the middle of the distribution."""
    ess_tail: Float[ndarray, " q"]
    """The lesser of those for the quantiles .05 and .95."""


def mixing(draws: Float[ndarray, "chains draws q"]) -> Mixing:
    """R-hat and effective sample sizes of each quantity, of at least 4 draws."""
    import arviz  # here, since it takes three seconds that --help need not wait for

    columns = [np.ascontiguousarray(draws[..., i], dtype=np.float64) for i in range(draws.shape[2])]
    found = [(arviz.rhat(x), arviz.ess(x, method="bulk"), arviz.ess(x, method="tail")) for x in columns]
    return Mixing(*(np.array(column, dtype=np.float64) for column in zip(*found, strict=True)))


def autocorrelation(draws: Float[ndarray, "chains draws"]) -> Float[ndarray, " draws"]:
    """Autocorrelation at lag 0, 1, ..., draws - 1 by ArviZ, which centres each chain; averaged over the chains."""
    import arviz  # here, as above

    return np.asarray(arviz.autocorr(np.asarray(draws, np.float64), axis=-1)).mean(0)

"""The dynamics of learning: energy gap d_t and gradient along the chains v_t (1903.12370, section 4 and appendix D).

d_t is the energy of the data minus that of the chains; in healthy learning it oscillates about 0, and negative
autocorrelation at short lags indicates an optimizer that overshoots. Only long chains show whether they converge.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from pipeline.recipe import Recipe

LAGS = 15
"""Updates over which correlations are computed."""


class Correlations(NamedTuple):
    """Correlations of d and v over updates; d is scaled to mean square 1 but not centred, v is standardised."""

    cross: Float[ndarray, " 2*lags+1"]
    """Mean of d(t + lag) v(t), for lag -lags, ..., lags: left of 0, d precedes v."""
    d: Float[ndarray, " lags+1"]
    """Autocorrelation of d, for lag 0, ..., lags."""
    v: Float[ndarray, " lags+1"]
    """Autocorrelation of v."""


def gap_and_grad_norm(recipe: Recipe, history: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    """d and v of the sample chain, from a run's history of metrics; empty for recipes without chains."""
    chain = "chains" if len(recipe.chains) == 1 else f"chains/{recipe.sample_chain}"
    return history.get("energy/gap", []), history.get(f"{chain}/grad_norm", [])


def correlations(d: Sequence[float] | ndarray, v: Sequence[float] | ndarray, lags: int = LAGS) -> Correlations:
    """Correlations of d_t and v_t, t = 1..n, n > lags; sums over the overlap, divided by n."""
    n = len(d)
    d, v = np.asarray(d, float), np.asarray(v, float)
    d, v = d / (np.sqrt(np.mean(d**2)) or 1.0), (v - v.mean()) / (v.std() or 1.0)
    cross, dd, vv = (np.correlate(np.pad(a, lags), b, "valid") / n for a, b in ((d, v), (d, d), (v, v)))
    return Correlations(cross, dd[lags:], vv[lags:])


def oscillation(d: Sequence[float], v: Sequence[float]) -> dict[str, float]:
    """`d_autocorrelation` and `v_autocorrelation` at lag 1, `dv_correlation` at lag 0; {} for short series."""
    if min(len(d), len(v)) <= LAGS:
        return {}
    result = correlations(d, v)
    names = ("d_autocorrelation", "v_autocorrelation", "dv_correlation")
    return dict(zip(names, (float(result.d[1]), float(result.v[1]), float(result.cross[LAGS])), strict=True))

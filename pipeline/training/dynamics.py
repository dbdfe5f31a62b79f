"""How learning goes, seen from d_t, v_t and long chains (1903.12370, section 4 and appendix D).

d_t is the energy of the data less that of the chains, v_t the gradient's size along the chains. In healthy learning d
oscillates about 0; oscillation with negative autocorrelation at short lags tells of an optimizer that overshoots.
Whether the chains have converged shows in long chains alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

LAGS = 15
"""Updates over which correlations are taken."""


class Correlations(NamedTuple):
    """Of d and v over the updates of a run; d is scaled to mean square 1 but not centred, v is standardised."""

    cross: Float[ndarray, " 2*lags+1"]
    """Mean of d(t + lag) v(t), for lag -lags, ..., lags: left of 0, d went before v."""
    d: Float[ndarray, " lags+1"]
    """Autocorrelation of d, for lag 0, ..., lags."""
    v: Float[ndarray, " lags+1"]
    """Autocorrelation of v."""


def correlations(d: Sequence[float] | ndarray, v: Sequence[float] | ndarray, lags: int = LAGS) -> Correlations:
    """Correlations of d_t and v_t, t = 1..n, n > lags; sums over the overlap, divided by n."""
    n = len(d)
    d, v = np.asarray(d, float), np.asarray(v, float)
    d, v = d / (np.sqrt(np.mean(d**2)) or 1.0), (v - v.mean()) / (v.std() or 1.0)
    middle = slice(n - 1 - lags, n + lags)
    cross, dd, vv = (np.correlate(a, b, "full")[middle] / n for a, b in ((d, v), (d, d), (v, v)))
    return Correlations(cross, dd[lags:], vv[lags:])


def oscillation(d: Sequence[float], v: Sequence[float]) -> dict[str, float]:
    """`d_autocorrelation` and `v_autocorrelation` at lag 1 and `dv_correlation` at lag 0; nothing of a short series."""
    if min(len(d), len(v)) <= LAGS:
        return {}
    found = correlations(d, v)
    names = ("d_autocorrelation", "v_autocorrelation", "dv_correlation")
    return dict(zip(names, (float(found.d[1]), float(found.v[1]), float(found.cross[LAGS])), strict=True))


def dynamics_figure(d: Sequence[float] | ndarray, v: Sequence[float] | ndarray, until: int, lags: int = LAGS) -> Figure:
    """d_t, v_t and their correlations in one figure, for the updates before `until`."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    (top, right), (cross, auto) = figure.subplots(2, 2)
    updates, found = np.arange(until - len(d), until), correlations(d, v, lags)
    for axes, values, title in ((top, d, "d: energy of data less chains"), (right, v, "v: gradient along the chains")):
        axes.plot(updates, values, linewidth=0.6)
        axes.set(title=title, xlabel="update")
    cross.bar(np.arange(-lags, lags + 1), found.cross)
    cross.set(title="cross-correlation of d(t + lag) and v(t)", xlabel="lag")
    auto.bar(np.arange(lags + 1) - 0.2, found.d, 0.4, label="d")
    auto.bar(np.arange(lags + 1) + 0.2, found.v, 0.4, label="v")
    auto.set(title="autocorrelations", xlabel="lag")
    auto.legend()
    for axes in (top, cross, auto):
        axes.axhline(0, color="black", linewidth=0.6, linestyle="--")
    return figure

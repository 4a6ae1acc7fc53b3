"""Stochastic gradient push: push-sum averaging of weights over any directed, time-varying topology, without waiting.

Assran, Loizou, Ballas and Rabbat 2019 (1811.10792), algorithm 1. Messages may take any time: mass on its way is held by
no peer, and is counted once.
"""

from __future__ import annotations

from typing import final

from gossipdistill.strategies.push_sum import PushSum


@final
class Sgp(PushSum):
    """Push-sum of the models, with the gradient at the unbiased point: the equations of strategies/push_sum.py, f = 1.

    q = x - kappa z is kept beside the model, in 4 bytes a parameter where it is rounding alone, else in 8 (see
    learning/mass.py); w travels in float64. Column-stochastic by construction, also when peers are dead, busy or slow.
    A split that would leave w below `push_sum_weight_min` does not take place. The paper has no S. With one, z moves by
    S steps at most at once, and the rest of the step waits in x until weight comes. For every S the sums move by the
    same steps, so the models meet where the paper's do. Buffers (BatchNorm) are no mass: they stay each peer's own, as
    in the authors' code. A restarted peer begins with z of its checkpoint and w = 1.

    Publishes: all parameters, once per free neighbour; 4 P bytes in raw encoding (2 P in half), plus a header.
    Conserves: the sums of x and of w over all peers and parcels on their way, to 1e-12 of them, under any encoding;
    what the network loses or doubles changes nothing, and what is refused is returned. So z is always a weighted mean.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "sgp"

"""Stochastic gradient push with communication behind computation: the snapshot leaves before the local step.

tau-OSGP: Assran, Loizou, Ballas and Rabbat 2019 (1811.10792), section 4 and algorithm 2.
"""

from __future__ import annotations

from typing import final

from gossipdistill.strategies.push_sum import PushSum


@final
class Osgp(PushSum):
    """Push-sum of the models whose shares travel while the gradient is computed: the equations of
    strategies/push_sum.py, f = 1, in this order:

        on arrival, publish, step

    tau is `exchange.every_steps`. The paper's tau also bounds staleness: after tau steps without news its peers block.
    Here no peer blocks; a link whose last share is unsettled is passed over, and its share stays with me. Against sgp,
    a share lacks the step in progress, and has as long to arrive as that step takes. Buffers (BatchNorm) stay each
    peer's own. A restarted peer begins with z of its checkpoint and w = 1.

    Publishes: all parameters, once per free neighbour; 4 P bytes in raw encoding (2 P in half), plus a header.
    Conserves: the sums of x and of w over all peers and parcels on their way, as sgp does.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "osgp"
    overlapped = True

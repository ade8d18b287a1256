"""Maximum mean discrepancy of the codes of batches: how far they are from one distribution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .latents import Code
from .schedules import Schedule


@dataclass(frozen=True)
class BatchDiscrepancy:
    r"""Squared maximum mean discrepancy of each batch's codes to those of all others, mean over batches.

    With :math:`x` the n codes of a batch and :math:`y` the m others of a step,

    .. math::

        \frac{\sum_{i \ne j} k(x_i, x_j)}{n (n - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{m (m - 1)}
        - \frac{2 \sum_{i, j} k(x_i, y_j)}{n m},
        \qquad k(x, y) = \exp\!\left(-\frac{\lVert x - y \rVert^2}{h \, s^2}\right)

    with :math:`s^2` the mean squared distance of two codes of the step. 0 is expected of batches from one
    distribution, and a step can fall below. Batches with one cell in a step are left out of it.

    A kernel as wide as the data asks that batches have the same mean, which they have not where they hold
    other shares of the kinds of cells: it draws kinds onto each other. A narrow one sees only cells near each
    other, and mixes batches within kinds.

    Parameters
    ----------
    weight
        Schedule or number.
    bandwidth
        h: width of the kernel in units of the mean squared distance.
    n_batches
        Batches that there are; None looks for the last one in every step, which waits for a GPU.

    References
    ----------
    Gretton et al., A kernel two-sample test, JMLR 13, 2012, `jmlr.org/papers/v13/gretton12a.html
    <https://jmlr.org/papers/v13/gretton12a.html>`__. Amodio et al., SAUCIE, Nature Methods 2019,
    `doi:10.1038/s41592-019-0576-7 <https://doi.org/10.1038/s41592-019-0576-7>`__.
    """

    weight: float | Schedule
    bandwidth: float
    n_batches: int | None = None
    name: ClassVar[str] = "batch_discrepancy"

    def __call__(self, code: Code) -> Tensor:
        """The discrepancy (a scalar) of the codes of a step."""
        if code.batches is None:
            raise TypeError("this penalty is for cells whose batches are known")
        squared = torch.cdist(code.z, code.z, compute_mode="donot_use_mm_for_euclid_dist").square()
        n_cells = len(squared)
        spread = squared.detach().sum() / max(n_cells * (n_cells - 1), 1)
        kernel = torch.exp(-squared / (self.bandwidth * spread.clamp(min=1e-12)))
        kernel = kernel - torch.diag(kernel.diagonal())
        n_batches = int(code.batches.max()) + 1 if self.n_batches is None else self.n_batches
        each = torch.arange(n_batches, device=code.batches.device)
        members = (code.batches.unsqueeze(1) == each).to(kernel.dtype)
        # pairs of cells, one of each of two batches: sums of the kernel (batches x batches)
        sums = members.T @ kernel @ members
        own, row, total = sums.diagonal(), sums.sum(1), sums.sum()
        n = members.sum(0)
        m = n_cells - n
        judged = (n > 1) & (m > 1)
        n, m = n.where(judged, 2.0), m.where(judged, 2.0)  # of others nothing is taken
        within = own / (n * (n - 1)) + (total - 2 * row + own) / (m * (m - 1))
        of_each = within - 2 * (row - own) / (n * m)
        return of_each.where(judged, 0.0).sum() / judged.sum().clamp(min=1)

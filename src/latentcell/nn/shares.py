"""Kinds of cells that a generator has to draw as often as they come, whatever its critic can see."""

import torch
from torch import Tensor

RATE = 0.005
"""Step of the multipliers, in units of the data's spread: a kind of 4 % of the cells of which a fifth is
lacking earns a quarter of a unit more after 1,250 steps."""
DAMPING, MEMORY = 400.0, 200.0
"""What is lacking now, as a mean over about so many steps (the second), counts as if it had been lacking for
so many (the first): multipliers that only add up swing about what they look for."""
SHARPNESS = 8.0
"""Log odds of the own kind against its nearest at a centre, for kinds as far apart as the median."""


class Shares:
    r"""Lagrange multipliers that hold drawn cells to the mean memberships of real ones.

    A cell belongs to kind k with :math:`\phi_k(x) = \mathrm{softmax}_k(-\|A^T x - c_k\|^2 / 2 \tau)`, of
    centres c in some directions A. Any generator that draws like the data has
    :math:`E\phi_k(\tilde x) = E\phi_k(x)`, so the constraint takes nothing from it, whatever the kinds are.
    Its Lagrangian adds :math:`-\sum_k u_k \phi_k(\tilde x)` to the generator's loss, and the multipliers
    follow what is missing (dual ascent):
    :math:`u_k \leftarrow u_k + \eta\,(E\phi_k(x) - \bar\phi_k) / \sqrt{E\phi_k(x)}`, by the mean
    :math:`\bar\phi` of a batch of drawn cells; the root gives all kinds equally noisy steps.
    (What is missing at the moment is added to them with some weight, as by the augmented Lagrangian.) They
    add up over batches, as a critic, which forgets within a few steps and whose slope is held, does not. The
    gradient of :math:`\phi` is large between kinds and vanishes within them: cells between a kind that is
    drawn too seldom and its neighbours move to it, others stay with the critic.

    Parameters
    ----------
    center
        Of the cells (features).
    axes
        Directions A (features x directions).
    centers
        Of the kinds (kinds x directions), at least two that differ.
    scale
        Distance that multipliers are in units of: what a unit of the critic is worth.

    Attributes
    ----------
    target
        Mean membership of real cells (kinds); set it before use.
    price
        The multipliers (kinds), in units of `scale`.
    lacking
        Recent mean of what is missing (kinds), over the root of the target.
    pace
        Factor of the multipliers' steps.

    References
    ----------
    Boyd et al., Distributed optimization and statistical learning via the alternating direction method of
    multipliers, 2011, sections 2.1 and 2.3, `doi:10.1561/2200000016 <https://doi.org/10.1561/2200000016>`__.
    """

    def __init__(self, center: Tensor, axes: Tensor, centers: Tensor, scale: float) -> None:
        self.center, self.axes, self.centers, self.scale = center, axes, centers, scale
        apart = torch.cdist(centers, centers).fill_diagonal_(torch.inf).min(1).values
        self.width = float(apart.square().median()) / (2 * SHARPNESS)
        self.target = torch.full((len(centers),), 1 / len(centers))
        self.price, self.lacking = torch.zeros(2, len(centers))
        self.pace = 1.0

    def to(self, device: torch.device) -> None:
        """Have all that a step needs on a device."""
        if self.price.device != device:
            for name in ("center", "axes", "centers", "target", "price", "lacking"):
                setattr(self, name, getattr(self, name).to(device))

    def membership(self, features: Tensor) -> Tensor:
        """How much each cell belongs to each kind (cells x kinds), of cells x features; more may follow."""
        self.to(features.device)
        seen = features[:, : len(self.center)].float()
        squares = torch.cdist((seen - self.center) @ self.axes, self.centers).square()
        return torch.softmax(-squares / (2 * self.width), dim=1)

    def reward(self, features: Tensor) -> Tensor:
        """What drawn cells (cells x features) earn on average (a scalar); then the multipliers move."""
        found = self.membership(features).mean(0)
        price = self.price + RATE * DAMPING * self.lacking
        earned = self.scale * (price * found).sum()
        lacking = (self.target - found.detach()) / self.target.clamp(min=1e-6).sqrt()
        self.price = self.price + self.pace * RATE * lacking
        self.lacking = self.lacking + (lacking - self.lacking) / MEMORY
        return earned

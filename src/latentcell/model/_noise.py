"""How drawn expression varies about its mean."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentcell.nn.counts import CountLikelihood
from latentcell.nn.likelihoods import Bernoulli, ComponentStudentT, Gaussian, Likelihood, Lossy, Raw


@dataclass(frozen=True)
class Noise:
    """What draws of continuous data need beside the likelihood.

    Attributes
    ----------
    lower
        Smallest value of each gene in the training cells (genes); no draw is below it. None for counts.
    residual
        Standard deviation of each gene about the decoded mean over the training cells (genes), where the
        likelihood is a loss rather than a density: squared error (a normal of fixed scale), cross-entropy of
        values between 0 and 1. None where the likelihood's own noise is drawn.
    """

    lower: np.ndarray | None = None
    residual: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """What there is, by name."""
        found = {"lower": self.lower, "residual": self.residual}
        return {name: values for name, values in found.items() if values is not None}

    def draw(self, likelihood: Likelihood, raw: Raw, library: Tensor) -> Tensor:
        """Values (cells x genes) drawn from a likelihood's raw outputs."""
        if self.residual is None:
            values = likelihood.distribution(raw, library).sample()
        else:
            mean = likelihood.mean(raw, library)
            values = mean + torch.from_numpy(self.residual).to(mean) * torch.randn_like(mean)
            if isinstance(likelihood, Bernoulli):
                values = values.clamp(max=1.0)
        if self.lower is None:
            return values
        return torch.maximum(values, torch.from_numpy(self.lower).to(values))


class NoiseMeter:
    """Measures :class:`Noise` batch by batch."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.is_loss = isinstance(likelihood, Bernoulli | ComponentStudentT | Lossy) or (
            isinstance(likelihood, Gaussian) and not likelihood.learned
        )
        self.n, self.binary = 0, True
        self.square: Tensor | float = 0.0
        self.lower: Tensor | None = None

    def add(self, x: Tensor, raw: Raw, library: Tensor) -> None:
        """Take in data (cells x genes) and what their codes decode to."""
        if isinstance(self.likelihood, CountLikelihood):
            return
        lowest = x.min(0).values
        self.lower = lowest if self.lower is None else torch.minimum(self.lower, lowest)
        if self.is_loss:
            self.n += len(x)
            self.square = self.square + (x - self.likelihood.mean(raw, library)).double().square().sum(0)
            self.binary = self.binary and bool(((x == 0) | (x == 1)).all())

    def result(self) -> Noise:
        """What was measured. Cross-entropy of zeros and ones is a density: it draws them."""
        lower = None if self.lower is None else self.lower.cpu().numpy()
        if not self.is_loss or (isinstance(self.likelihood, Bernoulli) and self.binary):
            return Noise(lower)
        return Noise(lower, torch.sqrt(torch.as_tensor(self.square) / self.n).float().cpu().numpy())

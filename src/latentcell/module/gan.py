"""Generator and critic as one trainable module.

The generator turns noise, depth and covariates into expression, the critic scores cells; both are told the
label in a conditional model. The equations meet in :meth:`GAN.critic_loss` and :meth:`GAN.generator_loss`.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from scvi import REGISTRY_KEYS
from torch import Tensor, nn
from torch.nn import functional as F

from latentcell.nn.counts import CountLikelihood, NegativeBinomial, Poisson
from latentcell.nn.critics import Critic, GeneratorBody, gradient_penalty, straight_through_counts
from latentcell.nn.mlp import MLP
from latentcell.nn.shares import Shares

from .autoencoder import Batch, Covariates

ValueLink = Literal["identity", "relu"]


class Values(nn.Module):
    """Expression that is no count: what the generator puts out is the cell, as in scGAN.

    Parameters
    ----------
    n_genes
        Genes.
    link
        ``"relu"`` for data without negative values, whose zeros are then exact; ``"identity"`` for others.
    """

    outputs = ("mean",)
    data_kind = "finite"
    lr_factor = 1.0

    def __init__(self, n_genes: int, *, link: ValueLink) -> None:
        super().__init__()
        self.name = self.link = link
        self.detail = "expression" + (", ReLU" if link == "relu" else "")
        self.register_buffer("unit", torch.tensor(1.0))

    unit: Tensor
    """What the generator calls 1: steps of its weights are of one size, whatever the scale of the data."""

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Bias that gives the data's mean (genes), in a unit that is taken from their deviations."""
        scale = std.square().mean().sqrt()
        self.unit.copy_(scale if scale > 0 else scale.new_ones(()))
        return mean / self.unit

    def mean(self, raw: dict[str, Tensor], library: Tensor) -> Tensor:
        """The cell itself (cells x genes)."""
        return self.unit * (F.relu(raw["mean"]) if self.link == "relu" else raw["mean"])


Outputs = Poisson | NegativeBinomial | Values


class Noise(nn.Module):
    """Where a generator's codes come from: independent standard normals.

    Parameters
    ----------
    n_latent
        Dimensions.
    """

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def sample_prior(self, n: int, temperature: float = 1.0, device: torch.device | None = None) -> Tensor:
        """Codes (n x n_latent) with standard deviation `temperature`, drawn on `device` (None: the CPU)."""
        return torch.randn(n, self.n_latent, device=device) * temperature

    def mean(self, posterior: dict[str, Tensor]) -> Tensor:
        """Where a cell was placed (cells x n_latent)."""
        return posterior["loc"]

    def draw(self, posterior: dict[str, Tensor]) -> Tensor:
        """The same: a cell has one place."""
        return self.mean(posterior)


class Generator(nn.Module):
    """Noise, depth and covariates to raw outputs, and what these mean.

    Parameters
    ----------
    n_in, sizes, n_labels
        See :class:`latentcell.nn.critics.GeneratorBody`.
    n_genes
        Genes.
    likelihood
        What raw outputs become.
    """

    def __init__(
        self, n_in: int, sizes: Sequence[int], n_labels: int, n_genes: int, likelihood: Outputs
    ) -> None:
        super().__init__()
        self.body = GeneratorBody(n_in, sizes, n_labels)
        self.head = nn.Linear(self.body.n_out, n_genes)
        self.likelihood = likelihood
        with torch.no_grad():
            self.head.weight.mul_(0.3)  # begin near the mean cell

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Inputs (cells x n_in) and labels (cells, integers) to raw outputs by name (cells x genes)."""
        return {"mean": self.head(self.body(inputs, labels))}


class GAN(nn.Module):
    r"""Wasserstein GAN with gradient penalty, for counts or values, conditional on labels or not.

    Parameters
    ----------
    n_genes, n_latent
        Genes, and dimensions of the noise.
    generator_sizes, critic_sizes, inverse_sizes
        Units of the layers.
    likelihood
        Counts (Poisson or negative binomial), or :class:`Values`.
    covariates
        What else is known about cells; both networks are told. Labels, if it has some, steer the generator's
        norms and the critic's projection.
    penalty_weight
        Of the gradient penalty.
    decay
        Of the running mean of the generator's weights, which is what new cells are drawn from.

    Attributes
    ----------
    generator, averaged
        The generator in training, and the running mean of its weights.
    inverse
        Predicts the noise a cell was drawn from; fitted after training, without gradients in it.
    """

    free = None

    def __init__(
        self,
        *,
        n_genes: int,
        n_latent: int,
        generator_sizes: Sequence[int],
        critic_sizes: Sequence[int],
        inverse_sizes: Sequence[int],
        likelihood: Outputs,
        covariates: Covariates,
        penalty_weight: float,
        decay: float,
    ) -> None:
        super().__init__()
        self.covariates = covariates
        self.penalty_weight = penalty_weight
        self.decay = decay
        self.latent = Noise(n_latent)
        is_count = isinstance(likelihood, CountLikelihood)
        beside = covariates.n_columns - covariates.n_labels + is_count
        n_labels = covariates.n_labels
        self.generator = Generator(n_latent + beside, generator_sizes, n_labels, n_genes, likelihood)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.critic = Critic(n_genes + beside, critic_sizes, n_labels)
        self.inverse = nn.Sequential(
            body := MLP(n_genes + beside + n_labels, inverse_sizes), nn.Linear(body.n_out, n_latent)
        ).requires_grad_(False)
        self.register_buffer("depth", torch.tensor([0.0, 1.0]))  # mean and deviation of log library sizes
        self.register_buffer("unit", torch.tensor(1.0))  # counts, or value, that features are relative to
        self.register_buffer("n_averaged", torch.tensor(0))
        self._n_averaged = 0  # the same, for which a device need not be waited for

    depth: Tensor
    unit: Tensor
    n_averaged: Tensor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unit.device

    @property
    def likelihood(self) -> Outputs:
        """What raw outputs of the generator become: of the running mean of the weights, out of training."""
        return self.generator.likelihood if self.training else self.averaged.likelihood

    @property
    def uses_labels(self) -> bool:
        """Whether a cell's label has any influence."""
        return self.covariates.n_labels > 0

    @property
    def is_count(self) -> bool:
        """Whether cells are counts."""
        return isinstance(self.generator.likelihood, CountLikelihood)

    def library(self, batch: Batch) -> Tensor:
        """Size factor of each cell (cells x 1): its key's, else its total count; 1 where counts are not."""
        x = batch[REGISTRY_KEYS.X_KEY]
        if not self.is_count:
            return torch.ones((x.shape[0], 1), device=x.device)
        if REGISTRY_KEYS.SIZE_FACTOR_KEY in batch:
            return batch[REGISTRY_KEYS.SIZE_FACTOR_KEY].float()
        return x.sum(1, keepdim=True)

    def features(self, x: Tensor, library: Tensor, batch: Batch) -> Tensor:
        """What critic and inverse see of cells (cells x features): log-normalised expression, depth, ..."""
        seen = torch.log1p(x * (self.unit / library)) if self.is_count else x / self.unit
        return torch.cat([seen, self._beside(library, batch)], dim=1)

    def decode_raw(self, z: Tensor, batch: Batch, library: Tensor | None = None) -> dict[str, Tensor]:
        """Raw outputs by name (cells x genes) of codes z (cells x n_latent) at a depth (cells x 1)."""
        if library is None:
            library = self.library(batch)
        network = self.generator if self.training else self.averaged
        return network(torch.cat([z, self._beside(library, batch)], dim=1), self._labels(batch))

    def draw(self, z: Tensor, batch: Batch, library: Tensor) -> Tensor:
        """Cells (cells x genes) drawn from codes, with a gradient."""
        raw, likelihood = self.decode_raw(z, batch, library), self.likelihood
        mean = likelihood.mean(raw, library)
        if isinstance(likelihood, NegativeBinomial):
            return straight_through_counts(mean, likelihood.theta())
        return straight_through_counts(mean) if self.is_count else mean

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Loss of the critic: :math:`E D(\tilde x) - E D(x) + \lambda E(\|\nabla D\| - 1)^2`.

        Returns
        -------
        Loss (a scalar), and per-cell terms (cells): ``critic_gap``, D of the real less that of the generated
        cell, whose mean estimates the Wasserstein-1 distance (for a shift of m it is larger by the factor
        :math:`1 + m / 2\lambda`, as the penalty lets the slope exceed 1); ``gradient_norm`` and
        ``gradient_penalty``.
        """
        library, labels = self.library(batch), self._labels(batch)
        real = self.features(batch[REGISTRY_KEYS.X_KEY], library, batch)
        n = len(real)
        with torch.no_grad():
            z = self._noise(real)
            generated = self.features(self.draw(z, batch, library), library, batch)
        share = torch.rand((n, 1), device=real.device)
        penalty, norms = gradient_penalty(self.critic, real, generated, labels, share)
        gap = self.critic(real, labels) - self.critic(generated, labels)
        loss = self.penalty_weight * penalty - gap.mean()
        terms = {"critic_gap": gap, "gradient_norm": norms, "gradient_penalty": (norms - 1).square()}
        return loss, terms

    def generator_loss(self, batch: Batch, shares: Shares | None = None) -> Tensor:
        r"""Loss of the generator (a scalar): :math:`-E D(\tilde x)`, at depth and covariates of the batch.

        With `shares`, less what the drawn cells earn for the kinds that are drawn too seldom.
        """
        library = self.library(batch)
        z = self._noise(library)
        generated = self.features(self.draw(z, batch, library), library, batch)
        loss = -self.critic(generated, self._labels(batch)).mean()
        return loss if shares is None else loss - shares.reward(generated)

    @torch.no_grad()
    def average(self) -> None:
        """Move the running mean towards the generator's weights; faster in the first steps."""
        self.n_averaged += 1
        self._n_averaged += 1
        step = self._n_averaged
        share = 1 - min(self.decay, step / (step + 9))
        for mean, now in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(now, share)
        for kept, last in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(last)

    def inverse_loss(self, batch: Batch) -> Tensor:
        """Mean squared error (a scalar) of the noise that the inverse finds in drawn cells."""
        library = self.library(batch)
        z = self._noise(library)
        with torch.no_grad():
            cells = self.draw(z, batch, library)
        return (self.place(cells, library, batch) - z).square().mean()

    def place(self, x: Tensor, library: Tensor, batch: Batch) -> Tensor:
        """Expected noise (cells x n_latent) of cells, by the inverse."""
        columns = [self.features(x, library, batch)]
        if self.uses_labels:
            columns.append(F.one_hot(self._labels(batch), self.covariates.n_labels).to(x.dtype))
        return self.inverse(torch.cat(columns, dim=1))

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._n_averaged = int(self.n_averaged)

    def _noise(self, like: Tensor) -> Tensor:
        """Codes for as many cells as `like` has, of its type and where it is."""
        return self.latent.sample_prior(len(like), device=like.device).to(like.dtype)

    def _labels(self, batch: Batch) -> Tensor:
        """Codes of labels (cells, integers); 0 without."""
        if not self.uses_labels:
            return torch.zeros(len(batch[REGISTRY_KEYS.X_KEY]), dtype=torch.long, device=self.device)
        return batch[REGISTRY_KEYS.LABELS_KEY][:, 0].long()

    def _beside(self, library: Tensor, batch: Batch) -> Tensor:
        """Standardised log depth of counts, and covariates other than the label (cells x columns)."""
        design = self.covariates.design(batch)
        columns = design[:, : self.covariates.n_columns - self.covariates.n_labels].float()
        if not self.is_count:
            return columns
        return torch.cat([(library.log() - self.depth[0]) / self.depth[1], columns], dim=1)

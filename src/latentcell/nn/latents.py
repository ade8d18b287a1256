"""Latents: how a cell's code is drawn, what its KL to the prior is, and the code that users receive.

A latent takes the encoder's features (cells x features) and returns a :class:`Code`. Everything downstream
(decoder, objective, user) reads only that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.nn import functional as F

from latentcell._sparse import SparseCells

from .mlp import MLP, make_activation
from .priors import SpikeAndSlab, SpikeAndSlabPrior, StandardNormal, kl_slab, kl_spike

Transform = Literal["identity", "softplus", "relu"]
Gate = Literal["concrete", "sigmoid"]


@dataclass
class Code:
    """What an encoder says of a batch of cells.

    Attributes
    ----------
    z
        A draw of the code (cells x n_latent, or samples x cells x n_latent); differentiable in training.
    mean
        The code's posterior mean after the latent's transform (cells x n_latent).
    mode
        The code without noise: for the spike and slab the hard code with exact zeros (cells x n_latent).
    qz
        Posterior, before the transform; None for a deterministic code.
    draw
        The draw that became `z`, before the transform; None for a deterministic code, and for a relaxed gate
        in training.
    kl
        Terms of KL(q||p) in nats by name, each per cell (cells). Their sum, averaged over the batch, is the
        KL.
    batches
        Which of the data set's batches each cell is of (cells, integers), for penalties; None if not known.
    seen
        What the encoder saw of the cells (cells x inputs), for penalties.
    """

    z: Tensor
    mean: Tensor
    mode: Tensor
    qz: Distribution | None = None
    draw: Tensor | None = None
    kl: dict[str, Tensor] = field(default_factory=dict)
    batches: Tensor | None = None
    seen: Tensor | SparseCells | None = None


class Heads(nn.Module):
    """One linear head per named parameter of the code, each with its own hidden layers if `sizes` is given.

    Parameters
    ----------
    n_in
        Features from the encoder.
    n_latent
        Dimensions of the code.
    names
        Names of the parameters.
    sizes
        Units of each head's own ReLU layers, before its linear one (the PBMC3k document has one of 16).
    """

    def __init__(self, n_in: int, n_latent: int, names: Sequence[str], sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.heads = nn.ModuleDict()
        for name in names:
            body = MLP(n_in, self.sizes, norm=None)
            self.heads[name] = nn.Sequential(body, nn.Linear(body.n_out, n_latent))

    def set_bias(self, name: str, value: float) -> None:
        """Start the parameter `name` at `value` in every dimension."""
        nn.init.constant_(self.heads[name].get_submodule("1").get_parameter("bias"), value)

    def forward(self, h: Tensor) -> list[Tensor]:
        """Parameters (cells x n_latent) in the order of the names."""
        return [head(h) for head in self.heads.values()]


class Deterministic(nn.Module):
    """An autoencoder's code: a function of the cell, no noise, no prior, no KL.

    Parameters
    ----------
    n_in, n_latent, head_sizes
        As in :class:`Heads`.
    code_activation
        Activation of the code (the PBMC3k document uses ReLU, which can switch dimensions off for ever).
    clusters
        What tells clusters of codes, to be trained with them; None tells none.
    """

    names = ("code",)
    kl_terms = ()

    def __init__(
        self,
        n_in: int,
        n_latent: int,
        *,
        code_activation: str = "identity",
        head_sizes: Sequence[int] = (),
        clusters: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.heads = Heads(n_in, n_latent, self.names, head_sizes)
        self.activation = make_activation(code_activation)
        self.clusters = clusters

    def forward(self, h: Tensor, *, temperature: float = 0.0, n_samples: int = 1) -> Code:
        """Features (cells x n_in) to their code."""
        (z,) = self.heads(h)
        z = self.activation(z)
        draws = z if n_samples == 1 else z.expand(n_samples, *z.shape)
        return Code(z=draws, mean=z, mode=z)

    def posterior(self, code: Code) -> dict[str, Tensor]:
        """What a cell's code is drawn from, by name (each cells x n_latent): here the code itself."""
        return {"loc": code.mode}

    def draw(self, posterior: dict[str, Tensor], temperature: float = 1.0) -> Tensor:
        """Codes (cells x n_latent) anew from what :meth:`posterior` gave: the same ones."""
        return posterior["loc"]

    def mean(self, posterior: dict[str, Tensor]) -> Tensor:
        """Mean codes (cells x n_latent) from what :meth:`posterior` gave."""
        return posterior["loc"]

    def within_range(self, z: Tensor) -> Tensor:
        """The nearest codes (cells x n_latent) that this latent can give."""
        return _within_range(z, self.activation)


class Gaussian(nn.Module):
    """A VAE's code: N(mu, sigma^2) per dimension against N(0, 1).

    Parameters
    ----------
    n_in, n_latent, head_sizes
        As in :class:`Heads`.
    transform
        Applied to the draw before the decoder: ``"softplus"`` makes codes non-negative. The KL is that of the
        Gaussian before it.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014,
    `arXiv:1312.6114 <https://arxiv.org/abs/1312.6114>`__.
    """

    names = ("mean", "scale")
    kl_terms = ("kl",)

    def __init__(
        self, n_in: int, n_latent: int, *, transform: Transform = "identity", head_sizes: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.heads = Heads(n_in, n_latent, self.names, head_sizes)
        self.prior = StandardNormal(n_latent)
        self.transform = make_activation(transform)

    def forward(self, h: Tensor, *, temperature: float = 0.0, n_samples: int = 1) -> Code:
        """Features (cells x n_in) to their code."""
        loc, raw_scale = self.heads(h)
        q = Normal(loc, _scale(raw_scale), validate_args=False)
        shape = torch.Size(()) if n_samples == 1 else torch.Size((n_samples,))
        mode = self.transform(loc)
        kl = kl_slab(q, self.prior.distribution()).sum(-1)
        draw = q.rsample(shape)
        return Code(z=self.transform(draw), mean=mode, mode=mode, qz=q, draw=draw, kl={"kl": kl})

    def sample_prior(self, n_cells: int, temperature: float = 1.0) -> Tensor:
        """Codes (n_cells x n_latent) from the prior, its deviation times `temperature`."""
        return self.transform(temperature * self.prior.distribution().sample((n_cells,)))

    def posterior(self, code: Code) -> dict[str, Tensor]:
        """What a cell's code is drawn from, by name (each cells x n_latent)."""
        if code.qz is None:
            raise TypeError("this code has no posterior")
        return {"loc": code.qz.mean, "scale": code.qz.stddev}

    def draw(self, posterior: dict[str, Tensor], temperature: float = 1.0) -> Tensor:
        """Codes (cells x n_latent) anew from what :meth:`posterior` gave, noise times `temperature`."""
        loc, scale = posterior["loc"], posterior["scale"]
        return self.transform(loc + temperature * scale * torch.randn_like(loc))

    def mean(self, posterior: dict[str, Tensor]) -> Tensor:
        """Mean codes (cells x n_latent) from what :meth:`posterior` gave."""
        return self.transform(posterior["loc"])

    def within_range(self, z: Tensor) -> Tensor:
        """The nearest codes (cells x n_latent) that this latent can give."""
        return _within_range(z, self.transform)


class SpikeAndSlabLatent(nn.Module):
    r"""A sparse coder's code: on with probability gamma, then N(mu, sigma^2); otherwise exactly 0.

    KL terms, per cell and summed over dimensions:

    * ``kl_slab``: gamma KL(N(mu, sigma^2) || N(0, 1)), the slab's KL weighted by the inclusion probability;
    * ``kl_information``: KL(gamma_i || gamma_bar), what a cell's gates say about the cell;
    * ``kl_usage``: KL(gamma_bar || alpha), how far a dimension's use is from the prior's.

    gamma_bar is the mean over the batch. Averaged over the batch, information + usage is the spike's KL
    exactly: mean_i KL(gamma_i || alpha) = mean_i KL(gamma_i || gamma_bar) + KL(gamma_bar || alpha). Weighing
    them apart lets every dimension be used at a rate near alpha (no dead, no always-on dimensions) without
    paying for what the gates say about a cell.

    Parameters
    ----------
    n_in, n_latent, head_sizes
        As in :class:`Heads`.
    alpha
        Prior inclusion probability.
    transform
        Applied to the slab's draw: ``"softplus"`` makes codes non-negative.
    gate
        Training gate. ``"concrete"``: sigmoid((logit gamma + logistic noise) / temperature), with a gradient
        everywhere. ``"sigmoid"``: the paper's S(c (u - 1 + gamma)), slope c = temperature, whose gradient is
        below 1e-3 for most draws at c >= 50.

    References
    ----------
    Tonolini, Jensen and Murray-Smith, Variational Sparse Coding, UAI 2020, PMLR 115:690-700. Maddison, Mnih
    and Teh, The Concrete Distribution, ICLR 2017, `arXiv:1611.00712 <https://arxiv.org/abs/1611.00712>`__.
    """

    unit: Tensor
    names = ("mean", "scale", "inclusion")
    kl_terms = ("kl_slab", "kl_information", "kl_usage")

    def __init__(
        self,
        n_in: int,
        n_latent: int,
        *,
        alpha: float,
        transform: Transform = "identity",
        gate: Gate = "concrete",
        head_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if gate not in ("concrete", "sigmoid"):
            raise ValueError(f"gate must be 'concrete' or 'sigmoid', got {gate!r}")
        self.n_latent = n_latent
        self.gate = gate
        self.heads = Heads(n_in, n_latent, self.names, head_sizes)
        self.prior = SpikeAndSlabPrior(n_latent, alpha)
        self.transform = make_activation(transform)
        self.register_buffer("unit", torch.ones(n_latent))
        # start on in a share alpha of cells and with little noise, so that the first steps see the signal
        self.heads.set_bias("inclusion", math.log(alpha / (1 - alpha)))
        self.heads.set_bias("scale", -1.0)

    def forward(self, h: Tensor, *, temperature: float, n_samples: int = 1) -> Code:
        """Features (cells x n_in) to their code; `temperature` is the gate's (see the class)."""
        loc, raw_scale, logits = self.heads(h)
        q = SpikeAndSlab(loc, _scale(raw_scale), logits, validate_args=False)
        level = self.transform(loc)
        if self.training:
            shape = loc.shape if n_samples == 1 else (n_samples, *loc.shape)
            slab = self.transform(loc + q.scale * torch.randn(shape, device=loc.device, dtype=loc.dtype))
            z, draw = slab * self._draw_gate(logits.expand(shape), temperature), None
        else:
            draw = q.sample(() if n_samples == 1 else (n_samples,))
            z = torch.where(draw == 0, 0.0, self.transform(draw))
        mode = torch.where(logits > 0, level, 0.0)
        return Code(z=z, mean=q.probs * level, mode=mode, qz=q, draw=draw, kl=self._kl(q))

    def set_unit(self, spread: Tensor) -> None:
        """Report dimensions in units of `spread`, the standard deviation of the codes (n_latent).

        Dimensions that do not vary (below 1e-20, where squares are 0 in single precision) keep the unit 1.
        """
        self.unit.copy_(torch.where(spread > 1e-20, spread, torch.ones_like(spread)))

    def sample_prior(self, n_cells: int, temperature: float = 1.0) -> Tensor:
        """Codes (n_cells x n_latent) from the prior, the slab's deviation times `temperature`."""
        prior = self.prior.distribution()
        on = torch.bernoulli(prior.probs.expand(n_cells, -1)) > 0
        slab = torch.randn(on.shape, device=on.device, dtype=prior.loc.dtype)
        return self._transform_where(on, temperature * slab)

    def posterior(self, code: Code) -> dict[str, Tensor]:
        """What a cell's code is drawn from, by name (each cells x n_latent)."""
        if not isinstance(code.qz, SpikeAndSlab):
            raise TypeError("this code has no spike-and-slab posterior")
        return {"loc": code.qz.loc, "scale": code.qz.scale, "logits": code.qz.logits}

    def draw(self, posterior: dict[str, Tensor], temperature: float = 1.0) -> Tensor:
        """Codes (cells x n_latent) anew from :meth:`posterior`, the slab's noise times `temperature`."""
        loc, scale = posterior["loc"], posterior["scale"]
        on = torch.bernoulli(torch.sigmoid(posterior["logits"])) > 0
        return self._transform_where(on, loc + temperature * scale * torch.randn_like(loc))

    def mean(self, posterior: dict[str, Tensor]) -> Tensor:
        """Mean codes (cells x n_latent) from what :meth:`posterior` gave."""
        return torch.sigmoid(posterior["logits"]) * self.transform(posterior["loc"])

    def within_range(self, z: Tensor) -> Tensor:
        """The nearest codes (cells x n_latent) that this latent can give."""
        return _within_range(z, self.transform)

    def _transform_where(self, on: Tensor, slab: Tensor) -> Tensor:
        return torch.where(on, self.transform(slab), 0.0)

    def _draw_gate(self, logits: Tensor, temperature: float) -> Tensor:
        u = torch.rand_like(logits)
        if self.gate == "sigmoid":
            return torch.sigmoid(temperature * (u - 1 + torch.sigmoid(logits)))
        u = u.clamp(1e-6, 1 - 1e-6)
        return torch.sigmoid((logits + u.log() - (-u).log1p()) / temperature)

    def _kl(self, q: SpikeAndSlab) -> dict[str, Tensor]:
        p = self.prior.distribution()
        usage_logits = _mean_logits(q.logits)
        usage = kl_spike(usage_logits, p.logits).sum()
        return {
            "kl_slab": (q.probs * kl_slab(q, p)).sum(-1),
            "kl_information": kl_spike(q.logits, usage_logits).sum(-1),
            "kl_usage": usage.expand(q.logits.shape[0]),
        }


Latent = Deterministic | Gaussian | SpikeAndSlabLatent


def _within_range(z: Tensor, transform: nn.Module) -> Tensor:
    """Codes cut off where the range of `transform` ends."""
    if isinstance(transform, nn.Sigmoid):
        return z.clamp(0.0, 1.0)
    if isinstance(transform, nn.Tanh):
        return z.clamp(-1.0, 1.0)
    return z.clamp(min=0.0) if isinstance(transform, nn.ReLU | nn.Softplus) else z


def _scale(raw: Tensor) -> Tensor:
    """Standard deviations from raw head outputs: exp, kept inside e^-6 to e^3."""
    return torch.exp(raw.clamp(-6.0, 3.0))


def _mean_logits(logits: Tensor) -> Tensor:
    """Log-odds of the mean over cells of sigmoid(logits), exact at both ends."""
    return torch.logsumexp(F.logsigmoid(logits), 0) - torch.logsumexp(F.logsigmoid(-logits), 0)

"""Networks between expression and code: a multilayer perceptron and a linear map."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcell._sparse import SparseCells

from .last_layer import Map
from .sparse import InputLinear

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}
Norm = Literal["batch", "layer"] | None
WORTH_ONEDNN = 2**22
"""Multiplications from which a product gains from another library than torch's first choice."""


def make_activation(name: str) -> nn.Module:
    """The activation called `name`; an unknown name is a `ValueError` listing the known ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class MLP(nn.Module):
    """Linear layers, each followed by normalisation, activation and dropout.

    Parameters
    ----------
    n_in
        Features per cell at the input.
    sizes
        Units of each layer; empty gives the identity.
    activation
        Name of the activation (see :data:`ACTIVATIONS`).
    norm
        ``"batch"``, ``"layer"`` or None. The running means of batch norm
        move by 0.1 a step, so that short trainings on small data end with the right ones.
    dropout
        Share of units dropped after each layer, 0 to 1.
    first_linear
        Leave the first layer without an activation (the PBMC3k document's encoder).
    """

    def __init__(
        self,
        n_in: int,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        first_linear: bool = False,
    ) -> None:
        super().__init__()
        if norm not in ("batch", "layer", None):
            raise ValueError(f"norm must be 'batch', 'layer' or None, got {norm!r}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.sizes = tuple(int(size) for size in sizes)
        self.n_out = self.sizes[-1] if self.sizes else n_in
        self.detail = _detail(activation, norm, dropout)
        layers: list[nn.Module] = []
        for i, size in enumerate(self.sizes):
            layers.append(nn.Linear(n_in, size) if i else InputLinear(n_in, size))
            if norm == "batch":
                layers.append(nn.BatchNorm1d(size, momentum=0.1, eps=0.001))
            elif norm == "layer":
                layers.append(nn.LayerNorm(size))
            if not (first_linear and i == 0):
                layers.append(make_activation(activation))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            n_in = size
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor | SparseCells, covariates: Tensor | None = None) -> Tensor:
        """Features (... x `n_in`, the last of them `covariates` if given) to features (... x `n_out`).

        Sparse cells (cells x genes) are taken as well.
        """
        if not self.sizes:
            x = x.dense if isinstance(x, SparseCells) else x
            return x if covariates is None else torch.cat([x, covariates], dim=-1)
        if isinstance(x, SparseCells) or x.dim() == 2:
            return self.layers[1:](self.layers[0](x, covariates))
        # batch norm takes cells x features only: several draws per cell pass as so many cells
        flat = self(x.flatten(0, -2), None if covariates is None else covariates.flatten(0, -2))
        return flat.unflatten(0, x.shape[:-1])


class MLPDecoder(nn.Module):
    """Code to raw gene values through hidden layers; one linear head per output the likelihood asks for.

    Covariates enter beside the code, and once more beside the last hidden layer: what a batch does to a gene
    in every cell is then one weight, which the network learns soon, and need not go through its layers.

    Parameters
    ----------
    n_latent
        Dimensions of the code.
    n_covariates
        Columns of covariates.
    n_genes
        Genes at the output.
    outputs
        Names of the raw outputs, e.g. ``("mean",)``.
    sizes, activation, norm, dropout
        As in :class:`MLP`.
    """

    def __init__(
        self,
        n_latent: int,
        n_covariates: int,
        n_genes: int,
        outputs: Sequence[str],
        *,
        sizes: Sequence[int],
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = MLP(n_latent + n_covariates, sizes, activation=activation, norm=norm, dropout=dropout)
        n_beside = n_covariates if sizes else 0  # without hidden layers they are beside the code already
        n_in = self.body.n_out + n_beside
        self.heads = nn.ModuleDict({name: nn.Linear(n_in, n_genes) for name in outputs})
        self.has_covariates_beside = n_beside > 0
        with torch.no_grad():
            for head in self.heads.values():
                head.get_parameter("weight")[:, self.body.n_out :] = 0.0

    def forward(self, z: Tensor, covariates: Tensor, *, values_only: bool = False) -> dict[str, Tensor]:
        """Code (... x n_latent) and covariates (... x n_covariates) to raw outputs (... x genes) by name.

        `values_only`: no derivative of any kind will be asked for.
        """
        h, maps = self.last(z, covariates)
        linear = _values_of_linear if values_only else F.linear
        return {name: linear(h, *map_) for name, map_ in maps.items()}

    def last(self, z: Tensor, covariates: Tensor) -> tuple[Tensor, dict[str, Map]]:
        """What the raw outputs are linear in (... x k), and weight (genes x k) and bias (genes) by name."""
        h = self.body(z, covariates)
        if self.has_covariates_beside:
            h = torch.cat([h, covariates], dim=-1)
        return h, {name: (head.weight, head.bias) for name, head in self.heads.items()}  # type: ignore[misc]

    def set_bias(self, name: str, bias: Tensor) -> None:
        """Start output `name` at `bias` (genes), usually the gene means on the output's scale."""
        with torch.no_grad():
            self.heads[name].get_parameter("bias").copy_(bias)


class LinearDecoder(nn.Module):
    """Code to raw gene values by one linear map, whose weights are readable loadings.

    With ``non_negative=True`` the loadings of the mean are softplus(W) >= 0: each dimension can only add
    expression, so that dimensions act as programmes, as in non-negative matrix factorisation. Covariates have
    their own signed weights.

    Parameters
    ----------
    n_latent, n_covariates, n_genes, outputs
        As in :class:`MLPDecoder`.
    non_negative
        Constrain the loadings of the mean to be positive; other outputs keep their sign.
    """

    def __init__(
        self,
        n_latent: int,
        n_covariates: int,
        n_genes: int,
        outputs: Sequence[str],
        *,
        non_negative: bool = False,
    ) -> None:
        super().__init__()
        self.non_negative = non_negative
        self.weight = nn.ParameterDict()
        self.bias = nn.ParameterDict()
        self.covariate_weight = nn.ParameterDict()
        for name in outputs:
            weight = torch.empty(n_genes, n_latent)
            if (
                non_negative and name == "mean"
            ):  # softplus(-3) is about 0.05: small, equal and positive at the start
                nn.init.normal_(weight, mean=-3.0, std=0.5)
            else:
                nn.init.xavier_normal_(weight)
            self.weight[name] = nn.Parameter(weight)
            self.bias[name] = nn.Parameter(torch.zeros(n_genes))
            self.covariate_weight[name] = nn.Parameter(torch.zeros(n_genes, n_covariates))

    def loadings(self, name: str = "mean") -> Tensor:
        """Loadings (genes x n_latent) of output `name`, as they enter the decoder."""
        weight = self.weight[name]
        return F.softplus(weight) if self.non_negative and name == "mean" else weight

    def forward(self, z: Tensor, covariates: Tensor, *, values_only: bool = False) -> dict[str, Tensor]:
        """Code (... x n_latent) and covariates (... x n_covariates) to raw outputs (... x genes) by name.

        `values_only`: no derivative of any kind will be asked for.
        """
        h, maps = self.last(z, covariates)
        linear = _values_of_linear if values_only else F.linear
        return {name: linear(h, *map_) for name, map_ in maps.items()}

    def last(self, z: Tensor, covariates: Tensor) -> tuple[Tensor, dict[str, Map]]:
        """What the raw outputs are linear in (... x k), and weight (genes x k) and bias (genes) by name."""
        maps = {}
        for name in self.weight:
            weight = self.loadings(name)
            if covariates.shape[-1]:
                weight = torch.cat([weight, self.covariate_weight[name]], dim=1)
            maps[name] = (weight, self.bias[name])
        return (torch.cat([z, covariates], dim=-1) if covariates.shape[-1] else z), maps

    def set_bias(self, name: str, bias: Tensor) -> None:
        """Start output `name` at `bias` (genes), usually the gene means on the output's scale."""
        with torch.no_grad():
            self.bias[name].copy_(bias)


Decoder = MLPDecoder | LinearDecoder


def _values_of_linear(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear`` without derivatives; on a CPU by oneDNN, which is twice as fast on some processors."""
    large = h.dim() == 2 and h.shape[0] * weight.numel() >= WORTH_ONEDNN
    plain = h.dtype == torch.float32 and h.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not (large and plain and torch.backends.mkldnn.is_available()) or torch.is_grad_enabled():
        return F.linear(h, weight, bias)
    return F.linear(h.to_mkldnn(), weight.to_mkldnn(), bias.to_mkldnn()).to_dense()


def _detail(activation: str, norm: Norm, dropout: float) -> str:
    words = [f"{norm} norm"] if norm else []
    if activation != "identity":
        words.append(activation.replace("_", " ").replace("relu", "ReLU"))
    if dropout:
        words.append(f"dropout {dropout:g}")
    return ", ".join(words)

"""Principal components inside a model: what its encoder sees, and what its likelihood is of."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions import StudentT as StudentTDistribution

from latentcell._sparse import SparseCells

from .inputs import EncoderInput
from .student_t_loss import student_t_nll

Raw = dict[str, Tensor]
_OVERSAMPLING = 10
_PASSES = 5
_LEAST = 1e-5
DEGREES = (2.1, 30.0)
"""Range of degrees of freedom that are learned: finite variances at one end, nearly normal at the other."""


class PrincipalAxes(NamedTuple):
    """Mean (genes), axes (genes x components, orthonormal), standard deviations along them (components)."""

    center: Tensor
    axes: Tensor
    std: Tensor


def principal_axes(batches: Callable[[], Iterable[Tensor]], n_components: int) -> PrincipalAxes:
    """Principal axes of cells that are read batch by batch, several times, in memory of genes x components.

    A random subspace is brought to the leading axes by power iterations, in double precision; with as many
    components as genes the result is exact. The largest entry of an axis is positive. Axes along which cells
    do not vary are 0.

    Parameters
    ----------
    batches
        Gives all cells anew, in batches (cells x genes).
    n_components
        How many; at most the number of genes.

    References
    ----------
    Halko, Martinsson and Tropp, SIAM Review 2011, `doi:10.1137/090771806
    <https://doi.org/10.1137/090771806>`__.

    Examples
    --------
    >>> cells = torch.tensor([[3.0, 4.0], [-3.0, -4.0], [0.0, 0.0]])
    >>> principal_axes(lambda: [cells[:2], cells[2:]], 1).axes[:, 0].tolist()
    [0.6000..., 0.800...]
    """
    n, total = 0, torch.zeros((), dtype=torch.float64)
    for x in batches():
        n, total = n + len(x), total + x.double().sum(0)
    center = total / n
    n_genes = len(center)
    width = min(n_components + _OVERSAMPLING, n_genes)
    start = torch.randn(n_genes, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = torch.linalg.qr(start).Q
    for _ in range(_PASSES):
        image = torch.zeros_like(basis)
        for x in batches():
            about = x.double() - center
            image += about.T @ (about @ basis)
        basis = torch.linalg.qr(image).Q
    inner = torch.zeros(width, width, dtype=torch.float64)
    for x in batches():
        scores = (x.double() - center) @ basis
        inner += scores.T @ scores
    variance, rotation = torch.linalg.eigh(inner / n)
    axes = (basis @ rotation.flip(1))[:, :n_components]
    std = variance.flip(0)[:n_components].clamp(min=0.0).sqrt()
    # where nothing varies an axis is any direction, also that of genes that are always 0
    axes[:, std <= _LEAST * std[0]] = 0.0
    sign = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return PrincipalAxes(center.float(), (axes * sign).float(), std.float())


class Components(nn.Module):
    """Scores of cells on principal axes, in units of the first one's standard deviation.

    Parameters
    ----------
    n_genes, n_components
        Sizes.
    """

    center: Tensor
    axes: Tensor
    length: Tensor

    def __init__(self, n_genes: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_genes))
        self.register_buffer("axes", torch.zeros(n_genes, n_components))
        self.register_buffer("length", torch.ones(()))

    def start(self, found: PrincipalAxes) -> None:
        """Take the axes of the training cells."""
        self.center.copy_(found.center)
        self.axes.copy_(found.axes)
        self.length.copy_(found.std[0] if found.std[0] > 0 else torch.ones(()))

    def scores(self, values: Tensor) -> Tensor:
        """Values (... x genes) to scores (... x components)."""
        return (values - self.center) @ self.axes / self.length

    def values(self, scores: Tensor) -> Tensor:
        """Scores (... x components) to the values (... x genes) that have them and lie on the axes."""
        return scores * self.length @ self.axes.T + self.center


class ComponentInput(EncoderInput):
    """Show the encoder principal components instead of genes.

    Parameters
    ----------
    n_genes, n_components
        Sizes.
    log_normalize, dropout
        See :class:`EncoderInput`; components are dropped instead of genes.
    """

    def __init__(
        self, n_genes: int, n_components: int, *, log_normalize: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(n_genes, log_normalize=log_normalize, dropout=dropout)
        self.components = Components(n_genes, n_components)
        self.n_out = n_components

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        words = [super().detail] if super().detail else []
        return ", ".join([*words, f"{self.n_out} principal components"])

    def forward(self, x: Tensor | SparseCells, library: Tensor) -> Tensor:
        """Data (cells x genes) and total counts (cells x 1) to scores (cells x components)."""
        values = x.dense if isinstance(x, SparseCells) else x
        if self.log_normalize:
            values = self.logged(values, library)
        scores = self.components.scores(values)
        return scores if self.dropout is None else self.dropout(scores)


class _OnAxes(Distribution):
    """Values on the principal axes whose scores are drawn from a distribution."""

    arg_constraints: dict = {}

    def __init__(self, scores: Distribution, components: Components) -> None:
        self.scores, self.components = scores, components
        shape = torch.Size([*scores.batch_shape[:-1], len(components.center)])
        super().__init__(shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Expected values."""
        return self.components.values(self.scores.mean)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Values."""
        with torch.no_grad():
            return self.components.values(self.scores.sample(sample_shape))


class ComponentStudentT(nn.Module):
    """Student's t for the principal components of the data, each with its scale and degrees of freedom.

    The decoder gives genes as for other likelihoods; of its output, too, only the components count, and what
    is expected of a gene lies on the axes.

    Parameters
    ----------
    n_genes, n_components
        Sizes.
    min_scale
        Lower bound of the scales, in units of the first component's standard deviation.

    References
    ----------
    Ding, Condon and Shah, Nature Communications 2018, `doi:10.1038/s41467-018-04368-5
    <https://doi.org/10.1038/s41467-018-04368-5>`__.
    """

    name = "student_t"
    lr_factor = 1.0
    outputs = ("mean",)
    data_kind = "finite"
    unit = "that of the data"

    def __init__(self, n_genes: int, n_components: int, *, min_scale: float = 1e-3) -> None:
        super().__init__()
        self.components = Components(n_genes, n_components)
        self.min_scale = min_scale
        self.log_scale = nn.Parameter(torch.zeros(n_components))
        self.raw_degrees = nn.Parameter(torch.zeros(n_components))

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        return f"Student's t of {len(self.log_scale)} principal components: mean, scale, degrees of freedom"

    def scale(self) -> Tensor:
        """Scale per component (components), in units of the first one's standard deviation."""
        return self.log_scale.exp().clamp(min=self.min_scale)

    def degrees(self) -> Tensor:
        """Degrees of freedom per component (components)."""
        low, high = DEGREES
        return low * (high / low) ** torch.sigmoid(self.raw_degrees)

    def start_scales(self, found: PrincipalAxes) -> None:
        """Start the scales at the deviations of the training cells along the axes."""
        with torch.no_grad():
            self.log_scale.copy_((found.std / self.components.length).clamp(min=2 * self.min_scale).log())

    def start(self, mean: Tensor, std: Tensor) -> Tensor:
        """Decoder bias that gives the data's mean (genes)."""
        return mean

    def baseline(self, bias: Tensor) -> Tensor:
        """Where to start the bias of a decoder that can only add to it: half the mean (genes)."""
        return 0.5 * bias

    def of_scores(self, raw: Raw) -> StudentTDistribution:
        """Student's t distribution of each score (cells x components)."""
        mean = self.components.scores(raw["mean"])
        return StudentTDistribution(self.degrees(), mean, self.scale(), validate_args=False)

    def distribution(self, raw: Raw, library: Tensor) -> Distribution:
        """Distribution of the values (cells x genes), on the principal axes."""
        return _OnAxes(self.of_scores(raw), self.components)

    def mean(self, raw: Raw, library: Tensor) -> Tensor:
        """Expected value (cells x genes) on the scale of the data."""
        return self.components.values(self.components.scores(raw["mean"]))

    def negative_log_likelihood(self, x: Tensor, raw: Raw, library: Tensor) -> Tensor:
        """Nats per cell (cells), over components."""
        mean = self.components.scores(raw["mean"])
        return student_t_nll(self.components.scores(x), mean, self.scale(), self.degrees())

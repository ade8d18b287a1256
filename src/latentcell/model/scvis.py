"""The VAE that draws a map: two dimensions, Student's t on principal components, a t-SNE term."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from anndata import AnnData

from latentcell._errors import DataError
from latentcell.nn.components import ComponentInput, ComponentStudentT, principal_axes
from latentcell.nn.counts import CountLikelihood
from latentcell.nn.latents import Gaussian
from latentcell.nn.likelihoods import Likelihood
from latentcell.nn.mlp import Norm
from latentcell.nn.neighbors import StochasticNeighbors
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Schedule
from latentcell.train.loading import Cells

from ._arguments import own_params
from ._assembly import Network
from ._cells import Indices
from ._values import AbstractValues, Data


class SCVIS(AbstractValues):
    r"""A map of cells that maps new cells too: VAE of principal components with a t-SNE term.

    It minimises :math:`E_q[-\log t(s | z)] + \beta \, KL(q(z|s) \| N(0, I)) + \lambda \, KL(P \| Q)`, where s
    are the scores of a cell on the training cells' principal axes, which the model keeps, t is Student's
    distribution, and P and Q are t-SNE's neighbourhoods in s and z among the cells of a batch.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`: counts, or values on a log scale.
    registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`; the sizes are those of the paper's encoder.
    beta
        See :class:`VAE`.
    neighbors
        Weight of the t-SNE term in nats, a number or a schedule of training progress; 0: none.
    perplexity
        Neighbours of a cell within a batch. A weight and a perplexity belong to a batch size.
    n_components
        Principal components; of small data as many as there are cells or genes.
    data
        See :class:`VASC`; here values may be negative.
    input_dropout, encode_covariates, head_sizes, seed
        See :class:`AE`; of the input, components are dropped.

    References
    ----------
    Ding, Condon and Shah, Nature Communications 2018, `doi:10.1038/s41467-018-04368-5
    <https://doi.org/10.1038/s41467-018-04368-5>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> old, new = adata[:60].copy(), adata[60:].copy()
    >>> lc.model.SCVIS.setup_anndata(old)
    >>> model = lc.model.SCVIS(old, hidden=(16,))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation(new).shape, model.get_log_likelihood(new).shape
    ((30, 2), (30,))
    """

    # large batches, in which cells have neighbours
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractValues.TRAIN_DEFAULTS | {"lr": 3e-3, "batch_size": 256}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 2,
        hidden: Sequence[int] = (128, 64, 32),
        activation: str = "elu",
        norm: Norm = None,
        dropout: float = 0.0,
        beta: float | Schedule = 1.0,
        neighbors: float | Schedule = 100.0,
        perplexity: float = 10.0,
        n_components: int = 50,
        data: Data = "auto",
        input_dropout: float = 0.0,
        encode_covariates: bool = False,
        head_sizes: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        params = own_params(locals())
        if adata is not None:
            n_components = min(n_components, *adata.shape)
        super().__init__(adata, registry, params | {"n_components": n_components})
        for name, value, least in (("n_components", n_components, 1), ("perplexity", perplexity, 1)):
            if not value >= least:
                raise DataError(f"{name} must be at least {least}, got {value!r}")
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=BetaELBO({"kl": beta}),
            penalties=[StochasticNeighbors(neighbors, perplexity)] if neighbors else [],
        )

    @classmethod
    def _chains(cls, params: Mapping[str, Any], n_genes: int, n_labels: int) -> list[tuple[Any, ...]]:
        inside = (params["n_components"], *params["hidden"], *params["head_sizes"], params["n_latent"])
        return [inside, (n_genes, params["n_components"])]

    def get_log_likelihood(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Log-likelihood of each cell's scores given its place on the map: low for cells of no known kind.

        Only what the principal axes hold is looked at. Axes and scales are fitted to the training cells, new
        ones vary less along the last axes and score higher: compare new cells with held-out ones.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_reconstruction`.

        Returns
        -------
        Array (cells), float32, nats; not comparable between models, nor between training cells and others.
        """
        return -np.asarray(self.get_reconstruction_error(adata, indices, batch_size, return_mean=False))

    def _likelihood_of_values(self) -> ComponentStudentT:
        return ComponentStudentT(len(self.spec.genes), self.params["n_components"])

    def _encoder_input(self, network: Network, likelihood: Likelihood) -> ComponentInput:
        sizes = len(self.spec.genes), self.params["n_components"]
        counts = isinstance(likelihood, CountLikelihood)
        return ComponentInput(*sizes, log_normalize=counts, dropout=network.input_dropout)

    def _start_at_data(self, cells: Cells) -> None:
        found = principal_axes(lambda: self._values_of(cells), self.params["n_components"])
        for part in (self._values, self.module.encoder_input):
            part.components.start(found)  # type: ignore[union-attr, operator]
        self._values.start_scales(found)
        super()._start_at_data(cells)

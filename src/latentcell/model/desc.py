"""DESC: an autoencoder whose code is clustered while it is trained."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from anndata import AnnData

from latentcell._errors import DataError, NotTrainedError
from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Deterministic
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Schedule, times
from latentcell.nn.self_training import Centroids, SelfTraining

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._cells import Indices
from ._deterministic import AbstractDeterministic
from ._leiden import leiden, some_of
from ._sound import check_units


class DESC(AbstractDeterministic):
    r"""Deep embedding for single-cell clustering: an autoencoder, then clusters trained on themselves.

    First an :class:`AE`. Then Leiden clusters of codes give centres :math:`\mu_j`, and to the loss is added
    :math:`KL(p_i \| q_i)` of soft assignments :math:`q_{ij} \propto (1 + \lVert z_i - \mu_j \rVert^2)^{-1}`
    from the sharper :math:`p_{ij} \propto q_{ij}^2 / \sum_i q_{ij}`, with codes in units of their root mean
    squared distance to a centre: cells move to the centre they are near to, and what sets cells of one kind
    apart, such as their batch, fades. No number of clusters is given.

    Parameters
    ----------
    adata, registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    resolution, n_neighbors
        Of Leiden (higher resolutions give more clusters) and of its graph.
    self_training
        Weight of the divergence, in nats per gene: a number or a schedule.
    clusters_from, rounds
        Share of training (0 to 1) after which clusters are looked for, and how many times from then on. A
        second :meth:`train` looks for those that the first was too short for, then keeps those there are.
    max_clusters
        Room for clusters; finding more is an error.
    gene_likelihood, gene_scale, dispersion, standardize_input, input_dropout, encode_covariates, seed
        See :class:`AE`.

    References
    ----------
    Li et al., Nature Communications 2020, `doi:10.1038/s41467-020-15851-3
    <https://doi.org/10.1038/s41467-020-15851-3>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.DESC.setup_anndata(adata)
    >>> model = lc.model.DESC(adata, n_latent=4, hidden=(32,))
    >>> model.train(max_epochs=20, enable_progress_bar=False)
    >>> probabilities = model.get_cluster_probabilities()
    >>> probabilities.shape, bool((probabilities.sum(axis=1) > 0.999).all())
    ((90, 3), True)
    """

    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractDeterministic.TRAIN_DEFAULTS | {"weight_decay": 2.0}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 10,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.1,
        resolution: float = 0.2,
        n_neighbors: int = 30,
        self_training: float | Schedule = 0.3,
        clusters_from: float = 0.5,
        rounds: int = 3,
        max_clusters: int = 64,
        gene_likelihood: GeneLikelihood = "auto",
        gene_scale: Literal["gene"] | float = 1.0,
        dispersion: Dispersion = "gene",
        standardize_input: bool = True,
        input_dropout: float = 0.0,
        encode_covariates: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        check_units("n_latent and hidden", [n_latent, *hidden])
        if not 0 <= clusters_from < 1:
            raise DataError(f"clusters_from must lie in [0, 1), got {clusters_from}")
        if not resolution > 0:
            raise DataError(f"resolution must be above 0, got {resolution}")
        for name in ("rounds", "n_neighbors", "max_clusters"):
            check_units(name, [self.params[name]])
        self._centroids = Centroids(n_latent, max_clusters)
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Deterministic(n_in, n_latent, clusters=self._centroids),
            objective=BetaELBO({}),
            penalties=[SelfTraining(self._centroids, times(self_training, len(self.spec.genes)))],
        )

    def get_cluster_probabilities(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Probability of each cluster (cells x clusters, float32; rows sum to 1), for any cells.

        The highest of a row is the cell's confidence. Arguments: see :meth:`get_latent_representation`.
        """
        if self.is_trained_ and not self._centroids.n_clusters:
            raise NotTrainedError(
                "no clusters were found: raise max_clusters, or lower resolution, and train"
            )
        return self._map(lambda code, batch: self._centroids(code.mode).exp(), adata, indices, batch_size)

    def get_clusters(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> np.ndarray:
        """The most probable cluster of each cell (cells, integers); see :meth:`get_cluster_probabilities`."""
        return self.get_cluster_probabilities(adata, indices, batch_size).argmax(axis=1)

    def _before_epoch(self, progress: float, rows: np.ndarray) -> None:
        begin, rounds = self.params["clusters_from"], self.params["rounds"]
        if progress >= begin + int(self._centroids.n_starts) * (1 - begin) / rounds:
            self._find_clusters(rows)

    def _after_training(self) -> None:
        # a run of few epochs, or with best weights of before there were clusters
        if not self._centroids.n_clusters and self.train_indices_ is not None:
            self._find_clusters(self.train_indices_)

    def _find_clusters(self, rows: np.ndarray) -> None:
        codes = self._codes_so_far(some_of(rows, self.params["seed"]))
        how = {name: self.params[name] for name in ("n_neighbors", "resolution", "seed")}
        found = leiden(codes.double().cpu().numpy(), **how)
        if found.max() >= self.params["max_clusters"]:
            raise DataError(f"{found.max() + 1} clusters were found; lower resolution or raise max_clusters")
        self._centroids.start(codes, torch.from_numpy(found).to(codes.device))

    @classmethod
    def _chains(cls, params: Mapping[str, Any], n_genes: int, n_labels: int) -> list[tuple[Any, ...]]:
        return [*super()._chains(params, n_genes, n_labels), (params["max_clusters"], params["n_latent"])]

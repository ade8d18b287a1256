"""SAUCIE: an autoencoder that mixes batches and reads clusters from a binary layer."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from anndata import AnnData

from latentcell._errors import DataError
from latentcell.nn.binary_clusters import N_HIDDEN, BinaryLayer, InformationDimension, WithinClusterDistance
from latentcell.nn.counts import Dispersion
from latentcell.nn.discrepancy import BatchDiscrepancy
from latentcell.nn.latents import Deterministic
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Linear, Schedule, times
from latentcell.train.run import local_random_state

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._cells import Indices
from ._deterministic import AbstractDeterministic
from ._sound import check_units
from ._valleys import check_joining, merges

RARE = 0.005  # share of the training cells that the binary code of a cluster must have


class SAUCIE(AbstractDeterministic):
    r"""Sparse autoencoder for unsupervised clustering, imputation and embedding.

    An :class:`AE` with a code of two dimensions, and three terms beside its loss: the discrepancy of each
    batch's codes from the others', the entropy of near-binary units on the code (information dimension), and
    the distance of cells whose units agree. The rounded units are a cell's cluster: no number is given.

    Parameters
    ----------
    adata, registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    batch_discrepancy, bandwidth
        Weight of the maximum mean discrepancy (lambda_b), in nats per gene; width of its kernel.
    information_dimension, within_cluster_distance
        Weights of the units' entropy and of the distance (lambda_c, lambda_d): more of the first gives fewer
        clusters, of the second more. They do not move the code.
    n_units
        Binary units, 1 to 16.
    gene_likelihood, gene_scale, dispersion, standardize_input, input_dropout, encode_covariates, seed
        See :class:`AE`.

    References
    ----------
    Amodio et al., Nature Methods 2019, `doi:10.1038/s41592-019-0576-7
    <https://doi.org/10.1038/s41592-019-0576-7>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.SAUCIE.setup_anndata(adata)
    >>> model = lc.model.SAUCIE(adata, hidden=(32,))
    >>> model.train(max_epochs=20, enable_progress_bar=False)
    >>> model.get_embedding().shape, model.get_clusters().shape
    ((90, 2), (90,))
    """

    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractDeterministic.TRAIN_DEFAULTS | {"weight_decay": 2.0}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 2,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.1,
        batch_discrepancy: float | Schedule = 0.25,
        bandwidth: float = 1 / 64,
        information_dimension: float | Schedule = Linear(0.0, 0.2, begin=0.2, end=0.8),
        within_cluster_distance: float | Schedule = 1.0,
        n_units: int = 8,
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
        if not (1 <= n_units <= 16 and bandwidth > 0):
            raise DataError(f"n_units={n_units} must be 1 to 16, bandwidth={bandwidth} above 0")
        with local_random_state(seed):
            self._layer = layer = BinaryLayer(n_latent, n_units)
        weight = times(batch_discrepancy, len(self.spec.genes))
        by_batch = [BatchDiscrepancy(weight, bandwidth, len(self.spec.batch))] if self.spec.batch else []
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Deterministic(n_in, n_latent, clusters=layer),
            objective=BetaELBO({}),
            penalties=[
                InformationDimension(layer, information_dimension),
                WithinClusterDistance(layer, within_cluster_distance),
                *by_batch,
            ],
        )

    def get_embedding(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> np.ndarray:
        """The map of cells (cells x 2, float32): the code; see :meth:`get_latent_representation`."""
        return self.get_latent_representation(adata, indices, batch_size)

    def get_clusters(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
        *,
        min_cells: int | None = None,
        valley: float | None = 0.8,
    ) -> np.ndarray:
        """Cluster of each cell (cells, integers): 0 has the most training cells; -1 is unassigned.

        Unassigned is whose binary code fewer than `min_cells` training cells have (default: 0.5 %, at least
        2). Two binary codes are one cluster unless the density of training cells falls below `valley` of the
        lower summit between them; None: each is one. Other arguments: see :meth:`get_latent_representation`.
        """
        check_joining(min_cells, valley)
        codes = self._codes(lambda code, batch: self._layer.codes(code.mode), adata, indices, batch_size)
        min_cells = _least(int(self._layer.counts.sum())) if min_cells is None else min_cells
        return self._layer.clusters(min_cells, valley).cpu().numpy()[codes]

    def _after_training(self) -> None:
        if self.train_indices_ is not None:
            z = self._codes_so_far(self.train_indices_)
            codes = self._layer.codes(z)
            joined = merges(z.cpu().numpy(), codes.cpu().numpy(), _least(len(codes)))
            self._layer.remember(codes, *joined)

    @classmethod
    def _chains(cls, params: Mapping[str, Any], n_genes: int, n_labels: int) -> list[tuple[Any, ...]]:
        beside = (params["n_latent"], N_HIDDEN, params["n_units"])
        return [*super()._chains(params, n_genes, n_labels), beside]


def _least(n_cells: int) -> int:
    return max(2, round(RARE * n_cells))

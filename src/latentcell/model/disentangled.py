"""The disentangled VAE: beta, controlled capacity, total correlation."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from anndata import AnnData

from latentcell._errors import DataError
from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Gaussian
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import Capacity
from latentcell.nn.penalties import TotalCorrelation
from latentcell.nn.schedules import Linear, Schedule

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._variational import AbstractVariational


class DisentangledVAE(AbstractVariational):
    r"""VAE whose dimensions are pressed to be independent: one process each, as far as that goes.

    It minimises, with TC the total correlation of the codes and C a capacity that rises during training,

    .. math::

        E_q[-\log p(x|z)] + \beta \, |KL(q(z|x) \| N(0, I)) - C(t)| + \lambda \, TC(q(z)).

    * ``beta`` > 1, ``capacity=0``: the beta-VAE of Higgins et al.;
    * ``capacity`` > 0: the controlled capacity of Burgess et al.; the code ends with that many nats;
    * ``beta=1``, ``total_correlation`` > 0: the beta-TCVAE of Chen et al., which presses the dimensions apart
      but leaves each what it says of a cell.

    Independent dimensions are easier to read, and a worse map of the cells: clusters in them agree less with
    cell types the larger beta is. Use :class:`VAE` for neighbours and clusters.

    Parameters
    ----------
    adata, registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    beta
        Weight of the KL, or of its distance from the capacity: a number, or a schedule of training progress.
    capacity
        C in nats per cell: a number that is reached on a straight line over the first half of training, or a
        schedule. 0: none.
    total_correlation
        Weight of the total correlation, a number or a schedule; 0: none. It is estimated from the batch, so a
        weight belongs to a batch size.
    conditional
        Tell encoder and decoder each cell's label (``labels_key``), as in :class:`CVAE`: dimensions then hold
        what varies within the labels.
    gene_likelihood, gene_scale, dispersion, standardize_input, input_dropout, encode_covariates, first_linear
        See :class:`AE` and :class:`VAE`.
    head_sizes, seed
        See :class:`AE`.

    References
    ----------
    Higgins et al., beta-VAE, ICLR 2017, `openreview.net/forum?id=Sy2fzU9gl
    <https://openreview.net/forum?id=Sy2fzU9gl>`__. Burgess et al., 2018, `arXiv:1804.03599
    <https://arxiv.org/abs/1804.03599>`__. Chen et al., NeurIPS 2018, `arXiv:1802.04942
    <https://arxiv.org/abs/1802.04942>`__. On single cells: Kimmel, 2020, `doi:10.1101/2020.03.04.972166
    <https://doi.org/10.1101/2020.03.04.972166>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.DisentangledVAE.setup_anndata(adata)
    >>> model = lc.model.DisentangledVAE(adata, n_latent=3, beta=10.0, capacity=5.0)
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> model.history["capacity"]["capacity"].round(2).to_list()[-1]
    5.0
    """

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
        beta: float | Schedule = 4.0,
        capacity: float | Schedule = 0.0,
        total_correlation: float | Schedule = 0.0,
        conditional: bool = False,
        gene_likelihood: GeneLikelihood = "auto",
        gene_scale: Literal["gene"] | float = 1.0,
        dispersion: Dispersion = "gene",
        standardize_input: bool = True,
        input_dropout: float = 0.0,
        encode_covariates: bool = False,
        first_linear: bool = False,
        head_sizes: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        given: dict[str, Any] = {
            "beta": beta,
            "capacity": capacity,
            "total_correlation": total_correlation,
        }
        for name, value in given.items():
            if not callable(value) and not (isinstance(value, int | float | np.number) and value >= 0):
                raise DataError(f"{name} must be 0 or more, or a schedule, got {value!r}")
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=Capacity(beta, capacity if callable(capacity) else Linear(0.0, capacity, end=0.5)),
            penalties=[TotalCorrelation(total_correlation)] if total_correlation else [],
        )

    def _latent_detail(self) -> str:
        return "normal, given the label" if self.module.covariates.n_labels else "normal"

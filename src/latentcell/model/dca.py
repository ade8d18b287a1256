"""The deep count autoencoder."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

from anndata import AnnData

from latentcell._errors import DataError
from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Deterministic
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO

from ._arguments import own_params
from ._assembly import Network
from ._deterministic import AbstractDeterministic

CountLikelihoodName = Literal["nb", "zinb", "poisson"]


class DCA(AbstractDeterministic):
    r"""Deep count autoencoder: denoises counts by the mean of a (zero-inflated) negative binomial.

    It minimises :math:`-\log p(x | \mu(z) \ell, \theta, \pi(z))` with a code z without noise, where
    :math:`\ell` is the cell's depth. :meth:`get_denoised` gives :math:`\mu`.

    Parameters
    ----------
    adata
        Counts, set up with :meth:`setup_anndata`.
    registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`; the paper's sizes are 64, 32, 64.
    gene_likelihood
        ``"nb"``; ``"zinb"`` for data in which counts are lost beyond sampling (full-length protocols,
        simulated drop-out); ``"poisson"``.
    dispersion
        See :class:`AE`. The paper's is ``"gene-cell"``.
    input_dropout
        Share of genes hidden from the encoder at each training step. A gene's count is then predicted from
        the other genes too, so that its own noise is not reproduced.
    standardize_input, encode_covariates, seed
        See :class:`AE`.

    References
    ----------
    Eraslan et al., Nature Communications 2019, `doi:10.1038/s41467-018-07931-2
    <https://doi.org/10.1038/s41467-018-07931-2>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> adata.X = (adata.X - adata.X.min()).round()
    >>> lc.model.DCA.setup_anndata(adata)
    >>> model = lc.model.DCA(adata, n_latent=4)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_denoised(scale="log1p").shape
    (90, 1000)
    """

    # as for the AE: decay keeps a code without noise smooth
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractDeterministic.TRAIN_DEFAULTS | {"weight_decay": 2.0}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 32,
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.0,
        gene_likelihood: CountLikelihoodName = "nb",
        dispersion: Dispersion = "gene",
        standardize_input: bool = True,
        input_dropout: float = 0.0,
        encode_covariates: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        if gene_likelihood not in get_args(CountLikelihoodName):
            raise DataError(
                f"DCA's gene_likelihood must be one of {get_args(CountLikelihoodName)}, "
                f"got {gene_likelihood!r}; for continuous data use AE"
            )
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Deterministic(n_in, n_latent),
            objective=BetaELBO({}),
        )

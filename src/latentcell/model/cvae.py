"""The conditional VAE."""

from collections.abc import Sequence
from typing import Literal

from anndata import AnnData

from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Gaussian
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Schedule

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._variational import AbstractVariational


class CVAE(AbstractVariational):
    r"""Conditional VAE: encoder and decoder are told each cell's label, which then steers generation.

    It minimises :math:`E_{q(z|x,y)}[-\log p(x|z,y)] + \beta \, KL(q(z|x,y) \| N(0, I))`. What the label y
    says need not be in the code, so codes hold what varies within a label, and codes drawn from the prior,
    decoded with a label, are cells of that label. To find cell types use :class:`VAE`: these codes hide them.

    Parameters
    ----------
    adata
        Cells, set up with ``setup_anndata(adata, labels_key=...)``. With ``unlabeled_category=`` as well,
        a tenth of the labels is hidden at each step of training, so that cells of unknown label can be
        encoded and decoded.
    registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    beta
        See :class:`VAE`.
    gene_likelihood, dispersion, standardize_input, input_dropout, encode_covariates, first_linear
        See :class:`AE`; with ``encode_covariates`` the encoder is told batch and covariates beside the label.
    gene_scale, head_sizes, seed
        See :class:`AE` and :class:`VAE`.

    Raises
    ------
    DataError
        If no labels were set up.

    References
    ----------
    Sohn, Lee and Yan, Learning Structured Output Representation using Deep Conditional Generative Models,
    NeurIPS 2015.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.CVAE.setup_anndata(adata, labels_key="group")
    >>> model = lc.model.CVAE(adata, n_latent=2)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (90, 2)
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
        beta: float | Schedule = 1.0,
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
        self._assemble(
            Network.of(self.params, conditional=True),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=BetaELBO({"kl": beta}),
        )

    def _latent_detail(self) -> str:
        return "normal, given the label"

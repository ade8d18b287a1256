"""The beta-VAE."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from anndata import AnnData

from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Gaussian
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Constant, Linear, Schedule

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._variational import AbstractVariational
from .ae import AE


class VAE(AbstractVariational):
    r"""Beta-VAE: codes N(mu, sigma^2) held to N(0, 1) with weight beta; with the preset ``"scvi"``, scVI.

    It minimises :math:`E_q[-\log p(x|z)] + \beta \, KL(q(z|x) \| N(0, I))`. beta = 1 is the standard VAE;
    below 1 the code keeps more of the cell, above 1 dimensions become independent at the price of detail.

    Parameters
    ----------
    adata, registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    beta
        Weight of the KL: a number, or a schedule of training progress such as
        ``latentcell.nn.schedules.Linear(0, 1, end=0.5)``.
    gene_likelihood, dispersion, standardize_input, input_dropout, encode_covariates, first_linear
        See :class:`AE`.
    head_sizes, seed
        See :class:`AE`.
    gene_scale
        See :class:`AE`. With ``gene_scale="gene"`` the scales are learned: a better likelihood, in which
        genes that hardly vary weigh more, and codes that cluster less well (PBMC3k, 6 dimensions).
    normalize_depth
        Let the encoder see counts per 10,000, so that a cell's code does not hang on its depth; False shows
        it the counts as they are (on a log scale in both cases), as scvi-tools does.
    decoder_dropout
        Share of the decoder's units dropped; None: `dropout`.

    References
    ----------
    Kingma and Welling, ICLR 2014, `arXiv:1312.6114 <https://arxiv.org/abs/1312.6114>`__. Higgins et al.,
    beta-VAE, ICLR 2017, `openreview.net/forum?id=Sy2fzU9gl <https://openreview.net/forum?id=Sy2fzU9gl>`__.
    Lopez et al., Nature Methods 2018,
    `doi:10.1038/s41592-018-0229-2 <https://doi.org/10.1038/s41592-018-0229-2>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.VAE.setup_anndata(adata)
    >>> model = lc.model.VAE(adata, n_latent=2, beta=2.0)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation(indices=[5, 0]).shape
    (2, 2)
    """

    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "pbmc3k-2020": {
            "model": {
                **{k: v for k, v in AE.PRESETS["pbmc3k-2020"]["model"].items() if k != "code_activation"},
                "beta": 2.0,
            },
            "train": AE.PRESETS["pbmc3k-2020"]["train"],
        },
        "scvi": {
            "model": {
                "n_latent": 10,
                "hidden": (128,),
                "dropout": 0.1,
                "decoder_dropout": 0.0,
                "beta": Linear(0.0, 1.0),
                "gene_likelihood": "zinb",
                "standardize_input": False,
                "normalize_depth": False,
            },
            "train": {
                "lr": 1e-3,
                "lr_schedule": Constant(1.0),
                "weight_decay": 0.0,
                "adam_eps": 0.01,
                "batch_size": 128,
                "max_epochs": 400,
            },
        },
    }

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
        normalize_depth: bool = True,
        decoder_dropout: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=BetaELBO({"kl": beta}),
        )

    def _latent_detail(self) -> str:
        return "normal"

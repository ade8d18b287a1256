"""The deep autoencoder."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from anndata import AnnData

from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Deterministic
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Constant

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._deterministic import AbstractDeterministic


class AE(AbstractDeterministic):
    r"""Deep autoencoder: a code that is a function of the cell, without noise or prior.

    It minimises the reconstruction error :math:`-\log p(x | z = f(x))`; with the normal likelihood of fixed
    scale that is the sum of squared errors.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`.
    registry
        Instead of `adata`, the registry of a saved model.
    n_latent
        Dimensions of the code.
    hidden
        Units of the encoder's layers; the decoder mirrors them.
    activation, norm, dropout
        Of every hidden layer: ``"relu"``, ``"leaky_relu"``, ``"elu"``, ...; ``"batch"``, ``"layer"`` or None;
        share of units dropped.
    code_activation
        Of the code; ``"relu"`` is the PBMC3k document's and can switch dimensions off for ever.
    gene_likelihood
        ``"normal"`` or, to forgive outliers, ``"student_t"`` (any numbers); ``"bernoulli"`` (0 to 1);
        ``"nb"``, ``"poisson"`` or ``"zinb"`` (counts). ``"auto"`` chooses ``"normal"``, ``"bernoulli"`` or
        ``"nb"`` by what the matrix holds and writes the choice to :attr:`gene_likelihood`. It never chooses
        ``"zinb"``, for counts lost beyond sampling: let held-out cells decide (:meth:`VAE.get_elbo`).
    gene_scale
        Standard deviation of the normal likelihood: a number for all genes (mean squared error), or
        ``"gene"`` to learn one per gene.
    dispersion
        Of ``"nb"`` and ``"zinb"``: one per ``"gene"``, per gene and batch or label (``"gene-batch"``,
        ``"gene-label"``: for batches of another protocol, cells of another kind), or per gene and cell
        (``"gene-cell"``: decoded from the code).
    standardize_input
        Standardise genes at the encoder's input (not in the likelihood).
    input_dropout
        Share of genes hidden from the encoder at each training step (a denoising autoencoder), so that the
        code rests on many genes.
    encode_covariates
        Tell batch and covariates to the encoder too, not only to the decoder.
    first_linear
        Leave the first layer without activation, as in the PBMC3k document.
    head_sizes
        Hidden ReLU layers of the code's own, after the shared ones.
    seed
        Of the initial weights and, by default, of training.

    References
    ----------
    Hinton and Salakhutdinov, Science 2006, `doi:10.1126/science.1127647
    <https://doi.org/10.1126/science.1127647>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.AE.setup_anndata(adata)
    >>> model = lc.model.AE(adata, n_latent=2, hidden=(10,))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> adata.obsm["X_ae"] = model.get_latent_representation()
    >>> adata.obsm["X_ae"].shape
    (90, 2)
    """

    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "pbmc3k-2020": {
            "model": {
                "n_latent": 6,
                "hidden": (128, 32),
                "head_sizes": (16,),
                "norm": None,
                "dropout": 0.0,
                "first_linear": True,
                "code_activation": "relu",
                "gene_likelihood": "normal",
                "gene_scale": 0.5**0.5,
                "standardize_input": False,
                "input_dropout": 0.0,
            },
            "train": {
                "lr": 1e-3,
                "lr_schedule": Constant(1.0),
                "weight_decay": 0.0,
                "batch_size": 256,
                "max_epochs": 200,
            },
        },
    }

    # without noise in the code, decay is what keeps a code of few dimensions smooth (PBMC3k, 6 dimensions)
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
        code_activation: str = "identity",
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
            Network.of(self.params),
            latent=lambda n_in: Deterministic(
                n_in, n_latent, code_activation=code_activation, head_sizes=head_sizes
            ),
            objective=BetaELBO({}),
        )

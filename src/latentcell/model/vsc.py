"""The variational sparse coder."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Code, Gate, SpikeAndSlabLatent, Transform
from latentcell.nn.mlp import LinearDecoder, Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Constant, Linear, Schedule

from ._arguments import own_params
from ._assembly import GeneLikelihood, Network
from ._cells import Indices
from ._variational import AbstractVariational
from .ae import AE


class VSC(AbstractVariational):
    r"""Beta-VSC, the variational sparse coder: each dimension is exactly 0 in most cells.

    A dimension is on in a cell with probability gamma, and then N(mu, sigma^2). Against the prior
    alpha N(0, 1) + (1 - alpha) delta_0 the KL divergence of a cell is

    .. math::

        \sum_j \gamma_j \tfrac12 (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)
        + \gamma_j \log\frac{\gamma_j}{\alpha} + (1-\gamma_j) \log\frac{1-\gamma_j}{1-\alpha}.

    Here its spike part is split, without change of value on average, into what a cell's gates say about the
    cell (information) and how far each dimension's use is from alpha (usage); each has a weight of its own.
    With a non-negative slab and a non-negative linear decoder (the defaults) dimensions are additive
    programmes.

    Parameters
    ----------
    adata, registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`.
    alpha
        Prior share of cells in which a dimension is on. Default: 0.4, and more with fewer than 10 dimensions
        (see :func:`default_alpha`).
    beta
        Weight of the slab's KL.
    beta_information, beta_usage
        Weights of the spike's two KL terms: numbers or schedules; None takes `beta` for both, which is the
        plain beta-VSC.
    transform
        Of the slab: ``"softplus"`` makes codes non-negative, ``"identity"`` leaves them signed.
    decoder
        ``"linear"`` (readable loadings) or ``"mlp"``.
    non_negative
        Constrain the loadings of the linear decoder to be positive.
    gate
        ``"concrete"``, or the paper's ``"sigmoid"``.
    temperature
        Of the gate: a number or a schedule; for ``"sigmoid"`` it is the slope.
    input_dropout
        Share of genes hidden from the encoder at each training step, so that codes rest on many genes.
    conditional
        Tell encoder and decoder each cell's label (``labels_key``), as in :class:`CVAE`: dimensions then hold
        what varies within the labels.
    gene_likelihood, gene_scale, dispersion, standardize_input, encode_covariates, first_linear
        See :class:`AE` and :class:`VAE`.
    head_sizes, seed
        See :class:`AE` and :class:`VAE`.

    References
    ----------
    Tonolini, Jensen and Murray-Smith, Variational Sparse Coding, UAI 2020, PMLR 115:690-700.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.VSC.setup_anndata(adata)
    >>> model = lc.model.VSC(adata, n_latent=8)
    >>> model.train(max_epochs=3, enable_progress_bar=False)
    >>> codes = model.get_latent_representation(hard=True)
    >>> codes.shape, bool((codes == 0).any())
    ((90, 8), True)
    """

    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "pbmc3k-2020": {
            "model": {
                **{k: v for k, v in AE.PRESETS["pbmc3k-2020"]["model"].items() if k != "code_activation"},
                "alpha": 0.5,
                "beta": 2.0,
                "beta_information": None,
                "beta_usage": None,
                "transform": "identity",
                "decoder": "mlp",
                "non_negative": False,
                "gate": "sigmoid",
                "temperature": Linear(50.0, 200.0),
                "input_dropout": 0.0,
            },
            "train": AE.PRESETS["pbmc3k-2020"]["train"],
        },
    }
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractVariational.TRAIN_DEFAULTS | {"lr": 3e-3}
    COUNT_TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 20,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        norm: Norm = "batch",
        dropout: float = 0.1,
        alpha: float | None = None,
        beta: float | Schedule = 0.25,
        beta_information: float | Schedule | None = Linear(0.25, 0.0, begin=0.5),
        beta_usage: float | Schedule | None = 5.0,
        transform: Transform = "softplus",
        decoder: Literal["linear", "mlp"] = "linear",
        non_negative: bool = True,
        gate: Gate = "concrete",
        temperature: float | Schedule = 0.5,
        gene_likelihood: GeneLikelihood = "auto",
        gene_scale: Literal["gene"] | float = "gene",
        dispersion: Dispersion = "gene",
        standardize_input: bool = True,
        input_dropout: float = 0.3,
        conditional: bool = False,
        encode_covariates: bool = False,
        first_linear: bool = False,
        head_sizes: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        params = own_params(locals())
        alpha = default_alpha(n_latent) if alpha is None else alpha
        super().__init__(adata, registry, params | {"alpha": alpha})
        if decoder not in ("linear", "mlp"):
            raise DataError(f"decoder must be 'linear' or 'mlp', got {decoder!r}")
        weights = {
            "kl_slab": beta,
            "kl_information": beta if beta_information is None else beta_information,
            "kl_usage": beta if beta_usage is None else beta_usage,
        }
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: SpikeAndSlabLatent(
                n_in, n_latent, alpha=alpha, transform=transform, gate=gate, head_sizes=head_sizes
            ),
            objective=BetaELBO(weights),
            linear_decoder=decoder == "linear",
            # softplus weights start flat, so at the encoder's rate the loadings would lag behind
            output_lr_factor=8.0 if decoder == "linear" else 1.0,
            non_negative=non_negative,
            log_linear=decoder == "linear",
            temperature=temperature if callable(temperature) else Constant(float(temperature)),
        )

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        return_dist: bool = False,
        *,
        hard: bool = False,
        seed: int = 0,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Code of each cell: the posterior mean, or the hard code with exact zeros.

        The decoder leaves the scale of a dimension open. Each dimension is reported in units of the standard
        deviation of its posterior mean over the training cells (not centred, so that 0 stays 0): no dimension
        drowns the others in a neighbour graph. :meth:`get_loadings` are scaled the other way.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others) and keys; None takes those the model was
            built with.
        indices
            Cells to take, in this order (positions or a boolean mask); None takes all.
        give_mean
            Return a code without noise; False returns one draw from the posterior, with exact zeros.
        batch_size
            Cells encoded at once; no influence on the result.
        return_dist
            Return mean and variance of the posterior (before the slab's transform) instead.
        hard
            The hard code: the slab's level where gamma > 1/2, exactly 0 elsewhere; which programmes a cell
            runs. False: the posterior mean gamma x level, which keeps the doubt in the gates and is better
            for neighbours.
        seed
            Of the draw.

        Returns
        -------
        Array (cells x n_latent), float32, rows in the order of `indices`; two of them with `return_dist`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming genes, keys, categories or values that do not fit.
        """
        if return_dist:
            return self._posterior(adata, indices, batch_size)
        unit = self._latent.unit

        def read(code: Code, batch: Batch) -> Tensor:
            chosen = code.z if not give_mean else code.mode if hard else code.mean
            return chosen / unit

        return self._map(read, adata, indices, batch_size, 0 if give_mean else seed)

    def get_inclusion_probability(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Probability gamma that a dimension is on in a cell (the spike).

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.

        Returns
        -------
        Array (cells x n_latent), float32, 0 to 1.

        Raises
        ------
        NotTrainedError, DataError
            See :meth:`get_latent_representation`.
        """
        return self._codes(lambda code, batch: code.qz.probs, adata, indices, batch_size)  # type: ignore[union-attr]

    def get_loadings(self) -> np.ndarray:
        """Weight of each gene in each dimension: what one unit of the code adds to the decoder's output.

        Returns
        -------
        Array (genes x n_latent), float32; non-negative if the decoder is.

        Raises
        ------
        DataError
            If the decoder is not linear.
        """
        if not isinstance(self.module.decoder, LinearDecoder):
            raise DataError("only a linear decoder has loadings; build the model with decoder='linear'")
        self._require_trained()
        return self.module.decoder.loadings().detach().cpu().numpy() * self._unit

    @property
    def _unit(self) -> np.ndarray:
        return self._latent.unit.cpu().numpy()

    @property
    def _latent(self) -> SpikeAndSlabLatent:
        latent = self.module.latent
        if not isinstance(latent, SpikeAndSlabLatent):
            raise TypeError(f"a VSC has a spike-and-slab latent, not {type(latent).__name__}")
        return latent

    def _acts(self, code: Code) -> Tensor:
        return code.qz.probs > 0.5  # type: ignore[union-attr]

    def _after_training(self) -> None:
        rows = [] if self.train_indices_ is None else self.train_indices_.tolist()
        means = self._map(lambda code, batch: code.mean, None, rows, None)
        self._latent.set_unit(torch.from_numpy(means.std(axis=0, dtype=np.float64)).float())

    def _latent_detail(self) -> str:
        return "spike and slab"


def default_alpha(n_latent: int) -> float:
    """Prior share of cells in which each of `n_latent` dimensions is on: four dimensions a cell.

    A cell is described by the dimensions that are on in it. With few of them, sparse ones say too little
    (PBMC3k, 6 dimensions: clusters merge at 0.4); with many, 0.4 is as sparse as clusters bear. Never above
    0.7, where the code would hardly be sparse.

    Examples
    --------
    >>> [round(default_alpha(n), 2) for n in (2, 6, 8, 10, 20)]
    [0.7, 0.67, 0.5, 0.4, 0.4]
    """
    return min(0.7, max(0.4, 4.0 / max(n_latent, 1)))

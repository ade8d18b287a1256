"""The VAE whose output passes a zero-inflation layer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from anndata import AnnData
from torch import Tensor

from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.latents import Code, Gaussian
from latentcell.nn.lossy import Lossy
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Exponential, Schedule, as_schedule
from latentcell.train.loading import Cells

from ._arguments import own_params
from ._assembly import Network
from ._cells import Indices
from ._values import AbstractValues, Data


class VASC(AbstractValues):
    r"""VAE with input dropout, for two dimensions, whose output is lost to 0 the more often the less it is.

    It minimises :math:`E_q[H(y, x \, m)] + \beta \, KL(q(z|y) \| N(0, I))`: cross-entropy of the data y, from
    0 to 1, to the decoded x times a Gumbel-softmax draw m of what is kept, :math:`P(m = 0) = e^{-s x^2}`.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`: counts, or non-negative values on a log scale.
    registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`; the paper's sizes are 512, 128, 32 and 2, without norm.
    beta
        See :class:`VAE`.
    temperature
        Of the Gumbel-softmax, a number above 0 or a schedule of training progress. Losses at two
        temperatures do not compare: a falling one raises that of training.
    steepness
        s; at the paper's 1 even the largest values are lost in 37 of 100 cells, at 10 next to none above a
        half of the largest.
    data
        ``"counts"`` (log(1 + counts per 10,000) is modelled), ``"values"`` (modelled as they are) or
        ``"auto"``: what the matrix holds.
    standardize_input, encode_covariates, first_linear
        See :class:`AE`.
    input_dropout
        Share of genes hidden from the encoder at each training step.
    head_sizes, seed
        See :class:`AE`.

    Raises
    ------
    DataError
        If values are negative, or an argument is out of range.

    References
    ----------
    Wang and Gu, Genomics, Proteomics & Bioinformatics 2018, `doi:10.1016/j.gpb.2018.08.003
    <https://doi.org/10.1016/j.gpb.2018.08.003>`__.

    Examples
    --------
    >>> import numpy as np, latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> adata.X = np.log1p(adata.X - adata.X.min())
    >>> lc.model.VASC.setup_anndata(adata)
    >>> model = lc.model.VASC(adata, hidden=(16,))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lost = model.get_dropout_probability(indices=[5, 0])
    >>> lost.shape, bool(((lost > 0) & (lost < 1)).all())
    ((2, 1000), True)
    """

    # the paper's for small data: few cells a step are many steps
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractValues.TRAIN_DEFAULTS | {"batch_size": 32}

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 2,
        hidden: Sequence[int] = (128, 32),
        activation: str = "relu",
        norm: Norm = None,
        dropout: float = 0.0,
        beta: float | Schedule = 1.0,
        temperature: float | Schedule = Exponential(1.0, 0.5),
        steepness: float = 1.0,
        data: Data = "auto",
        standardize_input: bool = False,
        input_dropout: float = 0.5,
        encode_covariates: bool = False,
        first_linear: bool = True,
        head_sizes: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        if not as_schedule(temperature)(0.0) > 0 or not as_schedule(temperature)(1.0) > 0:
            raise DataError(f"temperature must be above 0, got {temperature!r}")
        if not steepness > 0:
            raise DataError(f"steepness must be above 0, got {steepness!r}")
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=BetaELBO({"kl": beta}),
            temperature=as_schedule(temperature),
        )

    def get_dropout_probability(
        self, adata: AnnData | None = None, indices: Indices = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Probability that a value was lost: a function of what is decoded from the cell's code.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_reconstruction`.

        Returns
        -------
        Array (cells x genes), float32, between 0 and 1.
        """

        def lost(code: Code, batch: Batch) -> Tensor:
            return self._values.lost(self.module.decode_raw(self._point(code), batch))

        return self._map(lost, adata, indices, batch_size)

    def _likelihood_of_values(self) -> Lossy:
        return Lossy(len(self.spec.genes), steepness=self.params["steepness"])

    def _start_at_data(self, cells: Cells) -> None:
        self._values.start_at(max(float(values.max()) for values in self._values_of(cells)))
        super()._start_at_data(cells)

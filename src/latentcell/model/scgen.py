"""scGen: a VAE in whose latent space the effect of a condition is a shift."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell import _keys
from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import Dispersion
from latentcell.nn.latents import Code, Gaussian
from latentcell.nn.mlp import Norm
from latentcell.nn.objectives import BetaELBO
from latentcell.nn.schedules import Constant, Schedule

from ._arguments import own_params
from ._arithmetic import (
    Weighting,
    changed_obs,
    check_not_told,
    contrast_of,
    is_in,
    kinds_of,
    learn_shift,
    told_shifts,
    unit_of,
)
from ._assembly import GeneLikelihood, Network
from ._cells import _column, own_columns
from ._generation import Output
from ._variational import AbstractVariational


class ScGen(AbstractVariational):
    r"""VAE with latent arithmetic: predicts what a condition does to a type of cells never seen in it.

    A :class:`VAE` with a KL of next to no weight, so that codes keep the cell. Conditions differ by a shift
    of the code: :math:`\delta = \sum_t w_t \delta_t` over the other types t, where :math:`\delta_t` is the
    difference between the mean codes of stimulated and of control cells, and the stimulated cell is
    :math:`\hat x = \mathrm{decode}(z + \delta)`.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`: log-normalised as published, or counts (negative binomial:
        what is predicted cannot be negative). **Leave out what is to be predicted**, and do not set the
        condition up as batch or covariate: the decoder would be told it. A batch that is set up (a donor, a
        plate) is told to the decoder, as in any model here.
    registry, n_latent, hidden, activation, norm, dropout
        See :class:`AE`. One wide layer without batch norm and dropout: in the noise of both the ends of a
        shift blur. The published network is ``ScGen.from_preset("scgen-2019", adata)``.
    beta
        Weight of the KL; see :class:`VAE`.
    gene_likelihood, gene_scale, dispersion, standardize_input, input_dropout, encode_covariates, first_linear
        See :class:`AE`.
    head_sizes, seed
        See :class:`AE`.
    decoder
        ``"mlp"`` mirrors the encoder: the same shift may change cells of different types differently, as far
        as the cells seen teach it. ``"linear"`` adds the same to all cells (of counts, to the logarithm),
        and is the safer one with a handful of types.

    References
    ----------
    Lotfollahi, Wolf and Theis, scGen predicts single-cell perturbation responses, Nature Methods 2019,
    `doi:10.1038/s41592-019-0494-8 <https://doi.org/10.1038/s41592-019-0494-8>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_factors(300, 50, {"type": 3, "drug": 2}, seed=0)
    >>> unseen = (adata.obs["type"] == "type_1") & (adata.obs["drug"] == "drug_2")
    >>> cells = adata[~unseen].copy()
    >>> lc.model.ScGen.setup_anndata(cells, labels_key="type")
    >>> model = lc.model.ScGen(cells, n_latent=10, hidden=(32,))
    >>> model.train(max_epochs=5, enable_progress_bar=False)
    >>> change = {"condition_key": "drug", "stimulated": "drug_2", "control": "drug_1"}
    >>> new = model.predict(**change, cell_type="type_1")
    >>> bool((new.obs["drug"] == "drug_2").all()), bool((new.X >= 0).all())
    (True, True)
    """

    # without noise in the network a faster rate is stable
    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = AbstractVariational.TRAIN_DEFAULTS | {"lr": 2e-3}
    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "scgen-2019": {
            "model": {
                "n_latent": 100,
                "hidden": (800, 800),
                "activation": "leaky_relu",
                "norm": "batch",
                "dropout": 0.2,
                "decoder": "mlp",
                "beta": 2.5e-5,
                "gene_likelihood": "normal",
                "standardize_input": False,
            },
            "train": {
                "lr": 1e-3,
                "lr_schedule": Constant(1.0),
                "batch_size": 32,
                "max_epochs": 100,
            },
        },
    }

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 50,
        hidden: Sequence[int] = (256,),
        activation: str = "leaky_relu",
        norm: Norm = None,
        dropout: float = 0.0,
        beta: float | Schedule = 0.01,
        gene_likelihood: GeneLikelihood = "auto",
        gene_scale: Literal["gene"] | float = 1.0,
        dispersion: Dispersion = "gene",
        standardize_input: bool = False,
        input_dropout: float = 0.0,
        encode_covariates: bool = False,
        first_linear: bool = False,
        head_sizes: Sequence[int] = (),
        decoder: Literal["mlp", "linear"] = "mlp",
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        if decoder not in ("linear", "mlp"):
            raise DataError(f"decoder must be 'linear' or 'mlp', got {decoder!r}")
        self._assemble(
            Network.of(self.params),
            latent=lambda n_in: Gaussian(n_in, n_latent, head_sizes=head_sizes),
            objective=BetaELBO({"kl": beta}),
            linear_decoder=decoder == "linear",
        )

    def get_shift(
        self,
        adata: AnnData | None = None,
        *,
        condition_key: str,
        stimulated: Any,
        control: Any,
        cell_type: Any = None,
        labels_key: str | None = None,
        weighting: Weighting = "similarity",
    ) -> np.ndarray:
        """Difference of the codes of stimulated and control cells.

        Parameters
        ----------
        adata, condition_key, stimulated, control, labels_key
            See :meth:`predict`.
        cell_type
            The type that the shift is for, which is left out. None learns one shift from all types, each with
            the same weight.
        weighting
            See :meth:`predict`; only with `cell_type`.

        Returns
        -------
        Array (n_latent), in units of the code.

        Raises
        ------
        DataError
            See :meth:`predict`.
        """
        cells = self._adata_or_own(adata)
        check_not_told(self.spec, condition_key)
        labels_key = self.spec.labels_key if labels_key is None else labels_key
        first = is_in(cells, condition_key, control, "control", "condition_key")
        second = is_in(cells, condition_key, stimulated, "stimulated", "condition_key")
        if cell_type is None:
            codes = self._seen_codes(adata)[0]
            return learn_shift(codes, kinds_of(cells, labels_key), first, second, None, "balanced").vector
        contrast = contrast_of(
            cells,
            condition_key,
            labels_key,
            stimulated=stimulated,
            control=control,
            cell_type=cell_type,
            mask=None,
        )
        shifts = contrast.shifts(self._seen_codes(adata)[0], weighting)[1]
        if len(shifts) > 1:
            raise DataError(f"cell_type must be one type here, got {cell_type!r}; ask for each on its own")
        return next(iter(shifts.values())).vector

    def predict(
        self,
        adata: AnnData | None = None,
        *,
        condition_key: str,
        stimulated: Any,
        control: Any,
        cell_type: Any = None,
        mask: np.ndarray | None = None,
        labels_key: str | None = None,
        weighting: Weighting = "similarity",
        genes: Sequence[str] | None = None,
        output: Output = "mean",
        seed: int | None = None,
    ) -> AnnData:
        r"""Predict control cells as if they had been stimulated; the change is learned on other types.

        Whatever stimulated cells of the predicted types there are has no part in it.

        Parameters
        ----------
        adata
            Cells of both conditions, with the model's genes and keys; None takes those the model was built
            with. Not changed.
        condition_key
            ``obs`` column of the condition.
        stimulated, control
            The condition to predict, and that of the cells to start from.
        cell_type
            Type (or types) to predict: all its control cells.
        mask
            Instead, the control cells to predict: a boolean per cell. All types among them are left out of
            what the shift is learned on.
        labels_key
            ``obs`` column of types. Default: the ``labels_key`` that the model was set up with.
        weighting
            How the other types' shifts are averaged. ``"balanced"``, as published: all alike.
            ``"similarity"``: :math:`w_t \propto n_t\, d_t^{-p}`, with the distance :math:`d_t` between the
            mean codes of the type's control cells and of the cells to predict, and
            :math:`n_t = 1 / (1 / n_{control} + 1 / n_{stimulated})`, if that foretells the shifts of the
            other types from each other better than the balanced one (each left out in turn; p is the best of
            1, 2, 4 and 8), and else the balanced one.
        genes, output, seed
            See :meth:`generate`. ``output="mean"`` is less variable than cells are: compare means, and draw
            (``"sample"``) where variance or distributions matter.

        Returns
        -------
        AnnData (predicted cells x genes). ``X``: values on the scale of the data (of log-normalised data
        they can fall a little below 0, as scGen's do), or of counts, never negative, expected counts at the
        cell's own depth; ``obs``: the columns of `adata` with the new condition, ``"cell"`` (the control cell
        it was), ``"is_generated"``; ``obsm["X_scgen"]``: moved codes; ``uns["latentcell"]``: where it comes
        from, with ``"weights"``, a frame of the types the shift was learned on, and ``"unit"``.

        Raises
        ------
        DataError
            If a column, condition or type is not there, no other type was seen in both conditions, or the
            model was told the condition.

        References
        ----------
        See :class:`ScGen`. The weights by similarity are ours: see the model's page for what they were
        measured on.
        """
        cells = self._adata_or_own(adata)
        check_not_told(self.spec, condition_key)
        contrast = contrast_of(
            cells,
            condition_key,
            self.spec.labels_key if labels_key is None else labels_key,
            stimulated=stimulated,
            control=control,
            cell_type=cell_type,
            mask=mask,
        )
        codes, library = self._seen_codes(adata)
        added, shifts = contrast.shifts(codes, weighting)
        how = {
            "source": "shift",
            "condition_key": condition_key,
            "stimulated": str(stimulated),
            "control": str(control),
            "weighting": weighting,
            "weights": told_shifts(shifts),
        }
        obs = changed_obs(cells.obs.iloc[contrast.rows], {condition_key: stimulated})
        moved = codes[contrast.rows] + added
        return self._decoded_at(adata, contrast.rows, moved, library, obs, genes, output, seed, how)

    def batch_removal(
        self,
        adata: AnnData | None = None,
        *,
        batch_key: str,
        labels_key: str | None = None,
        reference: Any = None,
        weighting: Weighting = "similarity",
        genes: Sequence[str] | None = None,
    ) -> AnnData:
        """Move all cells to one batch, type by type, and decode them there.

        The cells of a type in a batch are shifted so that their mean code is that of the type in the
        reference batch. A type that the reference lacks is shifted as the types in both are, weighted as in
        :meth:`predict`. (scGen takes for each type the batch in which it is largest, so that types may end
        in different batches; and leaves types of one batch where they are.)

        Parameters
        ----------
        adata
            See :meth:`predict`.
        batch_key
            ``obs`` column of the batch; not the one that the model was set up with, which its decoder is told
            and its codes need not hold.
        labels_key
            ``obs`` column of types. Default: the ``labels_key`` that the model was set up with.
        reference
            The batch to move to. Default: the largest.
        weighting
            See :meth:`predict`; for types that the reference lacks.
        genes
            Return these genes only, in this order.

        Returns
        -------
        AnnData (the cells of `adata` x genes), in their order and with their names and ``obs``. ``X``:
        decoded expression, also of the reference's cells, so that all are alike (values on the scale of the
        data; or expected counts at each cell's own depth, never negative); ``obsm["X_scgen"]``: moved codes;
        ``uns["latentcell"]``: where it comes from, with ``"reference"`` and ``"unit"``.

        Raises
        ------
        DataError
            If a column or batch is not there, the model was told the batch, or a batch has no type in common
            with the reference.
        """
        cells = self._adata_or_own(adata)
        check_not_told(self.spec, batch_key)
        kinds = kinds_of(cells, self.spec.labels_key if labels_key is None else labels_key)
        batches = _column(cells, batch_key, "batch_key")
        if reference is None:
            reference = batches.value_counts().index[0]
        there = is_in(cells, batch_key, reference, "reference", "batch_key")
        codes, library = self._seen_codes(adata)
        moved = codes.copy()
        for batch in batches[~there].unique():
            here = (batches == batch).to_numpy()
            if not set(kinds[here]) & set(kinds[there]):
                raise DataError(f"batch {batch!r} has no type in common with the reference {reference!r}")
            for kind in np.unique(kinds[here]):
                of_kind = here & (kinds == kind)
                at = codes[of_kind].mean(axis=0)
                own = there & (kinds == kind)
                moved[of_kind] += (
                    codes[own].mean(axis=0) - at
                    if own.any()
                    else learn_shift(codes, kinds, here, there, at, weighting).vector
                )
        how = {"source": "batch removal", "batch_key": batch_key, "reference": str(reference)}
        obs = own_columns(cells.obs).copy()
        rows = np.arange(cells.n_obs)
        return self._decoded_at(adata, rows, moved, library, obs, genes, "mean", None, how)

    def _seen_codes(self, adata: AnnData | None) -> tuple[np.ndarray, np.ndarray]:
        """Codes (cells x n_latent, float64) and library sizes (cells) of cells."""

        def both(code: Code, batch: Batch) -> Tensor:
            return torch.cat([code.mean, self.module.library(batch)], dim=1)

        found = self._map(both, adata, None, None)
        return found[:, :-1].astype(np.float64), found[:, -1]

    def _decoded_at(
        self,
        adata: AnnData | None,
        rows: np.ndarray,
        codes: np.ndarray,
        library: np.ndarray,
        obs: Any,
        genes: Sequence[str] | None,
        output: Output,
        seed: int | None,
        how: dict[str, Any],
    ) -> AnnData:
        """Decode codes (rows x n_latent) with the depth and covariates of the cells `rows`."""
        told = self._cells(adata).arrays

        def draw(at: slice, rng: np.random.Generator) -> tuple[Tensor, Tensor, Batch]:
            here = {name: torch.from_numpy(values[rows[at]]) for name, values in told.items()}
            here[REGISTRY_KEYS.X_KEY] = torch.empty((len(rows[at]), 0))
            z = torch.from_numpy(codes[at].astype(np.float32))
            return z, torch.from_numpy(library[rows[at]])[:, None], here

        seed = self.params["seed"] if seed is None else seed
        new = self._new_cells(draw, obs, genes, output, seed, None, None, how)
        assert isinstance(new, AnnData)
        new.uns[_keys.UNS]["unit"] = unit_of(self.module.likelihood, output)
        return new

    def _latent_detail(self) -> str:
        return "normal"

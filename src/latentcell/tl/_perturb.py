"""What cells would be in another condition: arithmetic on the codes of any model, or codes told otherwise."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from latentcell import __version__, _keys
from latentcell._checks import check_matrix
from latentcell._errors import DataError, nearest
from latentcell.model import AE, CVAE, DCA, GAN, VAE, VSC, ConditionalGAN, DisentangledVAE, ScGen
from latentcell.model._arithmetic import (
    Contrast,
    Weighting,
    changed_obs,
    contrast_of,
    told_shifts,
    unit_of,
)
from latentcell.model._cells import DataSpec
from latentcell.model._generation import Output

from ._places import check_places, places_of, told_of


def perturb(
    adata: AnnData,
    model: AE
    | CVAE
    | ConditionalGAN
    | DCA
    | DisentangledVAE
    | GAN
    | ScGen
    | VAE
    | VSC
    | Literal["pca", "genes"],
    condition_key: str,
    *,
    stimulated: Any,
    control: Any,
    cell_type: Any = None,
    mask: np.ndarray | None = None,
    labels_key: str | None = None,
    weighting: Weighting = "similarity",
    use_rep: str | None = None,
    layer: str | None = None,
    n_comps: int = 50,
    genes: Sequence[str] | None = None,
    output: Output = "mean",
    seed: int | None = None,
) -> AnnData:
    r"""Predict control cells as if they had been stimulated, with the codes of any model.

    Two ways, by what the model was told:

    * **Arithmetic** where it was not told the condition: codes are moved by the shift between conditions that
      was learned on other types, as in scGen (see :meth:`ScGen.predict
      <latentcell.model.ScGen.predict>`), and decoded. Cells are placed by the encoder, or by
      :meth:`GAN.project <latentcell.model.GAN.project>`.
    * **Counterfactual** where it was told it, as the label of a conditional model (:class:`CVAE
      <latentcell.model.CVAE>`), as batch or as categorical covariate: the cell's code is decoded with the
      other condition. Nothing is learned here; what the condition does is in the decoder.

    Stimulated cells of the predicted types have no part in it, but in what the model was trained on:
    **train it without them**.

    Parameters
    ----------
    adata
        Cells of both conditions, with the model's genes and keys. Not changed.
    model
        A trained model; or a baseline without one, on log-normalised values: ``"pca"``, arithmetic on
        principal components, fitted without the stimulated cells of the predicted types; ``"genes"``,
        arithmetic on the values.
    condition_key, stimulated, control, cell_type, mask
        See :meth:`ScGen.predict <latentcell.model.ScGen.predict>`.
    labels_key
        ``obs`` column of types. Default: the ``labels_key`` of the model.
    weighting
        See :meth:`ScGen.predict <latentcell.model.ScGen.predict>`; of no use to a counterfactual.
    use_rep
        ``obsm`` key under which `adata` has the model's codes; None computes them.
    layer, n_comps
        Of the baselines: ``layers`` key of the values, None is ``X``; number of principal components.
    genes, output, seed
        See :meth:`decode <latentcell.model.VAE.decode>`; the baselines have ``"mean"`` only.

    Returns
    -------
    AnnData (predicted cells x genes) as from :meth:`ScGen.predict <latentcell.model.ScGen.predict>`: ``X`` in
    the unit that ``uns["latentcell"]["unit"]`` names, never negative for models of counts; ``obs`` with the
    new condition and ``"cell"``; the moved codes in ``obsm``. ``uns["latentcell"]["source"]`` is ``"shift"``
    or ``"counterfactual"``.

    Raises
    ------
    DataError
        If a column, condition, type or gene is not there, no other type was seen in both conditions, or
        `adata` does not fit the model.

    References
    ----------
    Lotfollahi, Wolf and Theis (2019), scGen, Nat Methods 16, https://doi.org/10.1038/s41592-019-0494-8;
    Sohn, Lee and Yan, NeurIPS 2015 (conditional VAE).

    Examples
    --------
    >>> import numpy as np
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_factors(300, 50, {"type": 3, "drug": 2}, seed=0)
    >>> counts = adata.X.toarray()
    >>> adata.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    >>> unseen = (adata.obs["type"] == "type_1") & (adata.obs["drug"] == "drug_2")
    >>> cells, change = adata[~unseen].copy(), {"stimulated": "drug_2", "control": "drug_1"}
    >>> new = lc.tl.perturb(cells, "pca", "drug", **change, cell_type="type_1", labels_key="type", n_comps=10)
    >>> control = cells[(cells.obs["type"] == "type_1") & (cells.obs["drug"] == "drug_1")]
    >>> table = lc.metrics.perturbation_response(adata[unseen].X, new.X, control.X, n_top=[20])
    >>> bool(table.loc["top 20", "delta_correlation"] > 0.8)
    True
    """
    baseline = model if isinstance(model, str) else None
    if baseline is None:
        check_places(adata, model)
        labels_key = cast("Any", model).spec.labels_key if labels_key is None else labels_key
    elif baseline not in ("pca", "genes"):
        raise DataError(f"model must be a trained model, 'pca' or 'genes', got {model!r}")
    contrast = contrast_of(
        adata,
        condition_key,
        labels_key,
        stimulated=stimulated,
        control=control,
        cell_type=cell_type,
        mask=mask,
    )
    obs = changed_obs(adata.obs.iloc[contrast.rows], {condition_key: stimulated})
    how: dict[str, Any] = {
        "condition_key": condition_key,
        "stimulated": str(stimulated),
        "control": str(control),
    }
    if baseline is not None:
        if output != "mean":
            raise DataError(f"output={output!r} needs a model; {model!r} gives 'mean'")
        new = _without_model(adata, baseline, contrast, weighting, layer, n_comps, how)
        new = new if genes is None else new[:, list(genes)].copy()
        new.obs = obs
        return new
    trained = cast("Any", model)
    told = told_of(adata, trained).at(contrast.rows)
    register = told_as(trained, condition_key)
    if register is not None:
        codes = places_of(adata, trained, use_rep, contrast.rows)
        told = _told_otherwise(told, register, condition_key, stimulated)
        how = {"source": "counterfactual", **how}
    else:
        everywhere = places_of(adata, trained, use_rep)
        added, shifts = contrast.shifts(everywhere, weighting)
        codes = everywhere[contrast.rows] + added
        how = {"source": "shift", **how, "weighting": weighting, "weights": told_shifts(shifts)}
    new = trained.decode(codes, genes=genes, output=output, seed=seed, **told)
    depth = new.obs.get("library_size")
    new.obs = obs if depth is None else obs.assign(library_size=depth)
    new.uns[_keys.UNS] |= how | {"unit": unit_of(trained.module.likelihood, output)}
    return new


def told_as(model: Any, key: str) -> str | None:
    """As what a model is told a column; None where it is not."""
    spec: DataSpec = model.spec
    if key == spec.labels_key and model.module.uses_labels:
        return "labels"
    if key == spec.batch_key:
        return "batch"
    if key in spec.continuous:
        raise DataError(f"the model was told {key!r} as a continuous covariate; conditions are categories")
    return "covariates" if key in spec.categorical else None


def _told_otherwise(told: dict[str, Any], register: str, key: str, value: Any) -> dict[str, Any]:
    """What the decoder is told, with another condition."""
    if register == "covariates":
        return told | {"covariates": told["covariates"] | {key: value}}
    return told | {register: value}


def _without_model(
    adata: AnnData,
    baseline: str,
    contrast: Contrast,
    weighting: Weighting,
    layer: str | None,
    n_comps: int,
    how: dict[str, Any],
) -> AnnData:
    """Arithmetic on values or on principal components; ``obs`` is the caller's."""
    values = log_values(adata, layer)
    if baseline == "genes":
        codes = values
        added, shifts = contrast.shifts(codes, weighting)
        moved, obsm = codes[contrast.rows] + added, {}
    else:
        pca = components(values[contrast.open], n_comps)
        codes = pca.transform(values)
        added, shifts = contrast.shifts(codes, weighting)
        places = codes[contrast.rows] + added
        moved, obsm = pca.inverse_transform(places), {"X_pca": places.astype(np.float32)}
    new = AnnData(moved.astype(np.float32), var=adata.var.copy(), obsm=obsm)
    record = {"source": "shift", **how, "weighting": weighting, "weights": told_shifts(shifts)}
    new.uns[_keys.UNS] = {"model": baseline, "latentcell": __version__, "unit": "that of the data"} | record
    return new


def log_values(adata: AnnData, layer: str | None) -> np.ndarray:
    """Log-normalised values (cells x genes, float64); counts are refused."""
    if layer is not None and layer not in adata.layers:
        raise DataError(
            f"layers has no {layer!r} (layer); there are {list(adata.layers)}.{nearest(layer, adata.layers)}"
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    where = "X" if layer is None else f"layers[{layer!r}]"
    if matrix is None:
        raise DataError("adata.X is empty; name the log-normalised values with layer=")
    check_matrix(matrix, adata.obs_names, adata.var_names, kind="finite", where=where)
    values = np.asarray(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float64)
    if (values == np.round(values)).all():
        raise DataError(
            f"{where} holds whole numbers; log-normalise first: sc.pp.normalize_total, sc.pp.log1p"
        )
    return values


def components(values: np.ndarray, n_comps: int) -> PCA:
    """Principal components of cells x genes."""
    most = min(values.shape) - 1
    if not 1 <= n_comps <= most:
        raise DataError(f"n_comps must be from 1 to {most} for {values.shape[0]} cells, got {n_comps}")
    return PCA(n_comps, random_state=0).fit(values)

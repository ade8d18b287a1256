"""One call from cells to an embedding: check, choose the likelihood, train, write, return the model."""

from typing import Any, Literal, TypeVar, cast

import numpy as np
from anndata import AnnData

from latentcell import _keys
from latentcell.model import AE, CVAE, DCA, VAE, VSC, DisentangledVAE, ScGen

from ._fit import Mask, added, fit, record
from ._latent_genes import on_genes

Embedding = TypeVar("Embedding", bound=AE | CVAE | DCA | VAE | VSC | DisentangledVAE | ScGen)


def ae(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("ae"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> AE:
    """Embed cells with a deep autoencoder and write the codes to `adata`.

    Parameters
    ----------
    adata
        Cells x genes; not a view.
    layer
        ``layers`` key of the matrix to model; None is ``X``. The likelihood follows from what it holds:
        counts give the negative binomial, values from 0 to 1 binary cross-entropy, others the normal
        distribution. What was chosen is written to ``uns``; ``gene_likelihood=`` overrides it.
    mask_var
        Genes to use: a boolean ``var`` key or array, or None for all. ``"auto"`` takes
        ``var["highly_variable"]`` where it is there, as ``sc.pp.pca`` does, and else all; of more than 5,000
        scanpy's log then says how genes are marked, at a verbosity of 3.
    batch_key
        ``obs`` key of the batch, which the decoder is told, so that the code need not hold it.
    max_epochs
        Passes over the cells; see :meth:`latentcell.model.AE.train`.
    key_added
        ``obsm`` key of the codes; the ``uns`` key is the same without ``"X_"``.
    seed
        Of weights, order of cells and noise: same seed, same bits on the same CPU.
    progress
        Draw a line of progress on stderr. None: unless ``sc.settings.verbosity`` is 0. At 1 (scanpy's
        default) there is the line alone; from 2 on scanpy's log says what is trained and how long it took;
        from 3 on also which keys were written.
    **model_args
        Arguments of :class:`latentcell.model.AE`, e.g. ``n_latent=10``, ``hidden=(128, 32)``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32.
    ``uns["ae"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Hinton and Salakhutdinov, Science 2006, `doi:10.1126/science.1127647
    <https://doi.org/10.1126/science.1127647>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.ae(adata, max_epochs=2, progress=False)
    >>> adata.obsm["X_ae"].shape, adata.uns["ae"]["gene_likelihood"]
    ((700, 10), 'normal')
    """
    return _embed(AE, adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress, model_args)


def vae(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("vae"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> VAE:
    """Embed cells with a beta-VAE and write the codes (posterior means) to `adata`.

    Parameters
    ----------
    adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.VAE`, e.g. ``n_latent=10``, ``beta=2.0``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32.
    ``uns["vae"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Kingma and Welling, ICLR 2014, `arXiv:1312.6114 <https://arxiv.org/abs/1312.6114>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vae(adata, max_epochs=2, beta=2.0, progress=False)
    >>> adata.obsm["X_vae"].shape
    (700, 10)
    """
    return _embed(VAE, adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress, model_args)


def disentangled_vae(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("disentangledvae"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> DisentangledVAE:
    """Embed cells with a disentangled VAE and write the codes (posterior means) to `adata`.

    Parameters
    ----------
    adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.DisentangledVAE`, e.g. ``beta=10.0``, ``capacity=20.0``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32.
    ``uns["disentangledvae"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Burgess et al., 2018, `arXiv:1804.03599 <https://arxiv.org/abs/1804.03599>`__; others: see
    :class:`latentcell.model.DisentangledVAE`.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.disentangled_vae(adata, max_epochs=2, beta=10.0, progress=False)
    >>> adata.obsm["X_disentangledvae"].shape
    (700, 10)
    """
    return _embed(
        DisentangledVAE,
        adata,
        layer,
        mask_var,
        batch_key,
        max_epochs,
        key_added,
        seed,
        progress,
        model_args,
    )


def vsc(
    adata: AnnData,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("vsc"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> VSC:
    """Embed cells with a variational sparse coder and write the codes to `adata`.

    Parameters
    ----------
    adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    **model_args
        Arguments of :class:`latentcell.model.VSC`, e.g. ``n_latent=20``, ``alpha=0.3``.

    Returns
    -------
    The trained model. Written to `adata`, for ``key_added="X_vsc"``:

    ``obsm["X_vsc"]``
        Posterior means of the codes (cells x n_latent), float32: for neighbours, clusters and maps.
    ``obsm["vsc_hard"]``
        Hard codes (cells x n_latent), float32, with exact zeros where a dimension is off: for reading.
    ``obsm["vsc_inclusion"]``
        Probability that a dimension is on in a cell (cells x n_latent), float32.
    ``varm["vsc_loadings"]``
        Loadings of a linear decoder (genes x n_latent), float32; 0 for genes that were not used.
    ``uns["vsc"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view or the matrix cannot be modelled; it names the cells, genes or argument.

    References
    ----------
    Tonolini, Jensen and Murray-Smith, Variational Sparse Coding, UAI 2020, PMLR 115:690-700.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.vsc(adata, max_epochs=2, progress=False)
    >>> adata.obsm["X_vsc"].shape, adata.varm["vsc_loadings"].shape
    ((700, 20), (765, 20))
    """
    model = _embed(VSC, adata, layer, mask_var, batch_key, max_epochs, key_added, seed, progress, model_args)
    adata.obsm[_keys.hard(key_added)] = cast("np.ndarray", model.get_latent_representation(hard=True))
    adata.obsm[_keys.inclusion(key_added)] = model.get_inclusion_probability()
    added(obsm=[_keys.hard(key_added), _keys.inclusion(key_added)])
    if model.params["decoder"] == "linear":
        adata.varm[_keys.loadings(key_added)] = on_genes(adata, model.spec.genes, model.get_loadings())
        added(varm=[_keys.loadings(key_added)])
    else:
        adata.varm.pop(_keys.loadings(key_added), None)  # of an earlier model with another decoder
    return model


def cvae(
    adata: AnnData,
    labels_key: str,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    unlabeled_category: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("cvae"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> CVAE:
    """Train a conditional VAE on labelled cells and write the codes (posterior means) to `adata`.

    The codes hold what varies within a label, not the labels.

    Parameters
    ----------
    adata
        See :func:`latentcell.tl.ae`.
    labels_key
        ``obs`` key of the labels that encoder and decoder are told.
    layer, mask_var, batch_key, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    unlabeled_category
        Label of cells whose label is not known.
    **model_args
        Arguments of :class:`latentcell.model.CVAE`, e.g. ``n_latent=10``, ``beta=2.0``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32.
    ``uns["cvae"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view, a label is missing or the matrix cannot be modelled; it names the cells, genes
        or argument.

    References
    ----------
    Sohn, Lee and Yan, NeurIPS 2015 (see :class:`latentcell.model.CVAE`).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.cvae(adata, "cell_type", max_epochs=2, progress=False)
    >>> adata.obsm["X_cvae"].shape
    (700, 10)
    """
    keys = {
        "batch_key": batch_key,
        "labels_key": labels_key,
        "unlabeled_category": unlabeled_category,
    }
    model = fit(CVAE, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    _write_codes(model, adata, layer, keys, key_added)
    return model


def scgen(
    adata: AnnData,
    labels_key: str,
    *,
    layer: str | None = None,
    mask_var: Mask | Literal["auto"] = "auto",
    batch_key: str | None = None,
    max_epochs: int | None = None,
    key_added: str = _keys.latent("scgen"),
    seed: int = 0,
    progress: bool | None = None,
    **model_args: Any,
) -> ScGen:
    """Train scGen and write the codes (posterior means) to `adata`; its ``predict`` then changes conditions.

    Parameters
    ----------
    adata
        See :func:`latentcell.tl.ae`; **without the cells that are to be predicted**.
    labels_key
        ``obs`` key of the types of cells, which ``predict`` and ``batch_removal`` use; training does not.
    layer, mask_var, max_epochs, key_added, seed, progress
        See :func:`latentcell.tl.ae`.
    batch_key
        See :func:`latentcell.tl.ae`; not the condition, nor the batch to remove: the decoder is told it.
    **model_args
        Arguments of :class:`latentcell.model.ScGen`, e.g. ``n_latent=50``.

    Returns
    -------
    The trained model. Written to `adata`:

    ``obsm[key_added]``
        Codes (cells x n_latent), float32.
    ``uns["scgen"]``
        Parameters, the likelihood in use, kind and layer of the matrix, final losses, versions.

    Raises
    ------
    DataError
        If `adata` is a view, a label is missing or the matrix cannot be modelled; it names the cells, genes
        or argument.

    References
    ----------
    Lotfollahi, Wolf and Theis, Nature Methods 2019, `doi:10.1038/s41592-019-0494-8
    <https://doi.org/10.1038/s41592-019-0494-8>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.pbmc68k()
    >>> model = lc.tl.scgen(adata, "cell_type", max_epochs=1, n_latent=20, hidden=(32,), progress=False)
    >>> adata.obsm["X_scgen"].shape
    (700, 20)
    """
    keys = {"batch_key": batch_key, "labels_key": labels_key}
    model = fit(ScGen, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    _write_codes(model, adata, layer, keys, key_added)
    return model


def _embed(
    model_class: type[Embedding],
    adata: AnnData,
    layer: str | None,
    mask_var: Mask,
    batch_key: str | None,
    max_epochs: int | None,
    key_added: str,
    seed: int,
    progress: bool | None,
    model_args: dict[str, Any],
) -> Embedding:
    keys = {"batch_key": batch_key}
    model = fit(model_class, adata, layer, mask_var, keys, max_epochs, seed, progress, model_args)
    _write_codes(model, adata, layer, keys, key_added)
    return model


def _write_codes(
    model: Embedding, adata: AnnData, layer: str | None, keys: dict[str, str | None], key_added: str
) -> None:
    adata.obsm[key_added] = model.get_latent_representation()
    adata.uns[_keys.params(key_added)] = record(model, layer, keys)
    added(obsm=[key_added], uns=[_keys.params(key_added)])

"""What every model does once it is set up: train, save, load, take other cells."""

import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from latentcell._errors import NotTrainedError
from latentcell.module.autoencoder import Autoencoder
from latentcell.train.loading import CellLoader
from latentcell.train.run import Callback, Plan, fit

from . import _files, _sound
from ._cells import DataSpec, matrix_of
from ._mark import mark_of
from ._query import prepare, reference_of
from ._set_up import AbstractSetUp
from ._templates import Templates, check_posterior, split_tensors
from ._trained_on import checked, trained_on

INFERENCE_BATCH = 1024
"""Cells encoded or decoded at once unless told otherwise; no influence on results."""


class AbstractModel(AbstractSetUp):
    """Set up, train, save, load. A final class builds :attr:`module` in its constructor.

    Attributes
    ----------
    spec
        What the model wants of an AnnData.
    params
        Arguments the model was built with.
    train_defaults
        Arguments of :meth:`train` that this model (or its preset) uses unless told otherwise:
        ``TRAIN_DEFAULTS``, and with a count likelihood those of ``COUNT_TRAIN_DEFAULTS`` as well.
    templates_
        What new cells take from training cells; None before :meth:`train`.
    trained_on_
        Which cells the model was trained on and how long it took, in numbers (no names); None before
        :meth:`train`, and of models that were saved by a version that did not keep it.
    """

    history_: dict[str, pd.DataFrame] | None
    is_trained_: bool
    train_indices_: np.ndarray | None
    validation_indices_: np.ndarray | None
    templates_: Templates | None = None
    trained_on_: dict[str, Any] | None = None

    def save(self, dir_path: str | os.PathLike, overwrite: bool = False, save_anndata: bool = False) -> None:
        """Save the model as a folder of two files: weights (safetensors) and everything else (JSON).

        No pickle is written, and reading runs no code. The folder appears whole or not at all; when
        a save over an older model is killed, the folder holds that one or the new one.

        Parameters
        ----------
        dir_path
            Folder to write.
        overwrite
            Replace a model that is there already, and the cells saved with it; it survives until the new one
            is complete. Other files in the folder are left alone.
        save_anndata
            Also write the cells, as ``adata.h5ad`` in the folder.

        Raises
        ------
        FileExistsError
            If the folder exists and `overwrite` is False, or holds something else.
        OSError
            Naming the folder, if the disk is full or read-only; what was there is as it was.
        """
        record = _files.record_of(self) | {
            "train_defaults": _files.encode(self.train_defaults),
            "is_trained": bool(self.is_trained_),
            "history": _files.history_to_json(self.history_),
        }
        if self.trained_on_ is not None:
            record["trained_on"] = self.trained_on_
        if self.module.free is not None:
            record["free"] = _files.encode(self.module.free)
        tensors = self.module.state_dict()
        if self.templates_ is not None:
            tensors = tensors | self.templates_.to_tensors()
        cells = self.adata if save_anndata else None
        _files.write(Path(dir_path), record, tensors, overwrite=overwrite, cells=cells)

    @classmethod
    def load(cls, dir_path: str | os.PathLike, adata: AnnData | None = None, *, device: str = "cpu") -> Self:
        """Load a model that :meth:`save` wrote.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Cells to attach, with the model's genes (in any order) and keys; None attaches none, and every
            method then needs its ``adata`` argument.
        device
            Where the weights go.

        Raises
        ------
        ModelFileError
            If the folder is not a model of this class, is damaged, or was written by a newer version.
        DataError
            If `adata` lacks genes, keys or categories of the model.
        """
        folder = Path(dir_path)
        record, weights = _files.read(cls, folder, device)
        with _sound.reading(folder):
            params = _files.decode(record["params"])
            registry = _files.registry_from_json(record["registry"])
            weights, templates = split_tensors(weights)
            _sound.check_finite(weights)
            spec = DataSpec.from_registry(registry)
            _sound.check_spec(spec)
            _sound.check_sizes(cls._chains(params, len(spec.genes), len(spec.labels or ())), weights)
            model = cls(None, registry=registry, **params)
            model.module.load_state_dict(weights)
            for name in _sound.UNITS:
                _sound.check_unit(name, model.module.state_dict().get(name, torch.ones(1)))
            if templates is not None:
                _sound.check_templates(templates, spec)
                check_posterior(model.module, templates)
            model.templates_ = templates
            defaults = dict(_files.decode(record["train_defaults"]))
            _sound.check_train_defaults(defaults, model.train_defaults)
            model.train_defaults |= defaults
            model.history_ = _files.history_from_json(record["history"])
            model.trained_on_ = checked(record.get("trained_on"))
            if "free" in record and isinstance(model.module, Autoencoder):
                model.module.freeze(_files.decode(record["free"]))
        model.module.to(device).eval()
        model.is_trained_ = bool(record["is_trained"])
        if adata is not None:
            model.attach(adata)
        return model

    @classmethod
    def prepare_query_anndata(cls, adata: AnnData, reference_model: "Self | str | os.PathLike") -> AnnData:
        """Bring cells to a model's genes: match them by name, fill those that were not measured with 0.

        To the model a filled gene looks like one that is not expressed, and each makes the code of a cell
        less sure; that is why nothing is filled unless you call this. Counts are totalled over the model's
        genes, as they were in training.

        Parameters
        ----------
        adata
            Cells with at least half of the model's genes, in any order and among others. Unchanged; it may be
            a view or backed.
        reference_model
            A model of this class, or the folder of a saved one.

        Returns
        -------
        A new AnnData in memory, cells x the model's genes in the model's order: the matrix that the model
        reads (``X``, or the layer that it was set up with; of the same kind and dtype as in `adata`), a copy
        of ``obs``, and in ``var["is_filled"]`` which genes were filled.

        Raises
        ------
        DataError
            If more than half of the genes are missing (naming the first), gene names repeat, or the layer is
            not there.

        Examples
        --------
        >>> import latentcell as lc
        >>> adata = lc.datasets.simulate_groups(seed=0)
        >>> lc.model.AE.setup_anndata(adata)
        >>> model = lc.model.AE(adata, n_latent=2, hidden=(10,))
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> query = lc.model.AE.prepare_query_anndata(adata[:, :900], model)
        >>> query.shape, int(query.var["is_filled"].sum())
        ((90, 1000), 100)
        >>> model.get_latent_representation(query).shape
        (90, 2)
        """
        return prepare(adata, reference_of(cls, reference_model).spec)

    def attach(self, adata: AnnData) -> None:
        """Make `adata` the cells that methods use when given none.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others) and keys.

        Raises
        ------
        DataError
            Naming genes, keys, categories or values that do not fit.
        """
        self._collect(adata, check=True)
        self._adata = adata
        self._mark = mark_of(matrix_of(adata, self.spec.layer))

    @property
    def gene_likelihood(self) -> str:
        """Likelihood in use: what ``gene_likelihood="auto"`` came to."""
        return self.module.likelihood.name

    def _run(
        self,
        plan: Plan,
        loader: CellLoader,
        validation: CellLoader | None,
        *,
        rows: tuple[np.ndarray, np.ndarray],
        max_epochs: int,
        accelerator: str,
        devices: int | str | list[int],
        strategy: str,
        precision: Any,
        gradient_clip: float | None,
        early_stopping_patience: int | None,
        seed: int,
        enable_progress_bar: bool,
        checkpoint_dir: str | os.PathLike | None,
        resume: bool,
        callbacks: Sequence[Callback],
        logger: Any,
    ) -> None:
        """Train by a plan; afterwards, also after an interruption or a failure, keep what there is.

        Parameters
        ----------
        plan, loader, validation
            What to train, on which cells, and on which held-out cells to watch it.
        rows
            The cells to train on and those held out.
        max_epochs, accelerator, devices, strategy, precision, gradient_clip, early_stopping_patience, seed
            See :func:`latentcell.train.run.fit`.
        enable_progress_bar, checkpoint_dir, resume, callbacks, logger
            See :meth:`train`.
        """
        self.module.train()
        interrupted, start = True, monotonic()
        try:
            interrupted = fit(
                plan,
                loader,
                validation,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                strategy=strategy,
                precision=precision,
                gradient_clip=gradient_clip,
                early_stopping_patience=early_stopping_patience,
                seed=seed,
                progress_title=f"Training {type(self).__name__}" if enable_progress_bar else None,
                checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
                resume=resume,
                callbacks=callbacks,
                logger=logger,
            )
        finally:
            self.module.eval().float()  # of precision "64-true" too: codes, files and draws are float32
            self.history_ = _history(plan.records)
            self.train_indices_, self.validation_indices_ = rows
            names = self._adata_or_own(None).obs_names
            self.trained_on_ = trained_on(names, rows, seed, monotonic() - start)
            self.is_trained_ = bool(plan.records) or self.is_trained_
            if self.is_trained_:
                try:
                    if self.module.free is None:
                        self._after_training()
                finally:
                    self.templates_ = self._remember(rows[0], seed)
        if interrupted:
            raise KeyboardInterrupt

    @classmethod
    def _chains(cls, params: Mapping[str, Any], n_genes: int, n_labels: int) -> list[tuple[Any, ...]]:
        """Sizes of layers that follow one another, by arguments of the constructor."""
        return [(n_genes, *params["hidden"], *params.get("head_sizes", ()), params["n_latent"])]

    @property
    @abstractmethod
    def _n_latent(self) -> int:
        """Dimensions of the code."""

    @property
    def _unit(self) -> np.ndarray:
        """What the decoder calls 1 in codes as users see them (n_latent)."""
        return np.ones(self._n_latent, dtype=np.float32)

    def _as_seen(self, codes: np.ndarray, cells: Sequence[str] | str) -> np.ndarray:
        """Codes of cells (cells x n_latent) as users see them; refused where that is not finite."""
        with np.errstate(over="ignore"):
            found = codes / self._unit
        _sound.check_results(torch.from_numpy(found), cells)
        return found

    def _after_training(self) -> None:
        """What a model takes from its training cells once its weights are final."""

    @abstractmethod
    def _remember(self, rows: np.ndarray, seed: int) -> Templates:
        """What new cells take from the training cells `rows`; labels even if the model does not use them."""

    def _require_trained(self) -> None:
        if not self.is_trained_:
            raise NotTrainedError(f"this {type(self).__name__} has not been trained; call train() first")


def default_batch_size(n_cells: int) -> int:
    """128, fewer on small data so that an epoch has about 8 steps; at least 8.

    Examples
    --------
    >>> default_batch_size(2638), default_batch_size(300), default_batch_size(30)
    (128, 32, 8)
    """
    return int(min(128, max(8, 2 ** round(math.log2(max(n_cells / 8, 1))))))


def _history(records: list[dict[str, float]]) -> dict[str, pd.DataFrame]:
    index = pd.Index([int(record["epoch"]) for record in records], name="epoch")
    names = [name for name in (records[0] if records else {}) if name != "epoch"]
    return {name: pd.DataFrame({name: [r[name] for r in records]}, index=index) for name in names}

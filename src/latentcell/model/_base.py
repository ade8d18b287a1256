"""What every model does: set up data, train, save, load."""

import math
import os
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi.model.base import BaseModelClass

from latentcell._errors import DataError, NotTrainedError
from latentcell._scvi import register
from latentcell.module.autoencoder import Autoencoder
from latentcell.nn.schedules import Cosine, Schedule
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.plan import TrainingPlan
from latentcell.train.run import fit

from . import _files, _sound
from ._cells import DataSpec, check_registrable, collect
from ._query import check_something_to_train, extend, prepare, reference_of
from ._templates import Templates, check_posterior, remember, split_tensors

INFERENCE_BATCH = 1024
"""Cells encoded or decoded at once unless told otherwise; no influence on results."""


def own_params(scope: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a model's constructor, from its ``locals()``."""
    return {k: v for k, v in scope.items() if k not in ("self", "adata", "registry", "__class__")}


def check_set_up(model_class: type, adata: AnnData | None, registry: dict | None) -> None:
    """Refuse to build a model on nothing, or on cells that no model was told of."""
    name = model_class.__name__
    if adata is None and registry is None:
        raise DataError(f"{name} needs an AnnData: {name}(adata)")
    if adata is not None and not any(str(key).startswith("_scvi") for key in adata.uns):
        raise DataError(f"adata is not set up; first call {name}.setup_anndata(adata, ...)")


class AbstractModel(BaseModelClass):
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
    """

    TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {
        "lr": 1e-3,
        "lr_schedule": Cosine(1.0, 0.0),
        "batch_size": None,
        "max_epochs": None,
        "weight_decay": 0.0,
        "gradient_clip": None,
    }
    COUNT_TRAIN_DEFAULTS: ClassVar[dict[str, Any]] = {}
    PRESETS: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}
    module: Autoencoder
    history_: dict[str, pd.DataFrame] | None
    is_trained_: bool
    train_indices_: np.ndarray | None
    validation_indices_: np.ndarray | None
    templates_: Templates | None = None

    def __init__(self, adata: AnnData | None, registry: dict | None, params: dict[str, Any]) -> None:
        check_set_up(type(self), adata, registry)
        for name, value in params.items():
            try:
                _files.encode(value)
            except TypeError as error:
                raise DataError(
                    f"{name}={value!r} cannot be saved with the model; "
                    "pass a number or one of latentcell.nn.schedules"
                ) from error
        super().__init__(adata, registry=registry)
        self.params = params
        self.spec = DataSpec.from_registry(self.registry)
        self.train_defaults = dict(self.TRAIN_DEFAULTS)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        unlabeled_category: str | None = None,
    ) -> None:
        """Tell the model where in `adata` to find its data. Nothing is copied.

        Parameters
        ----------
        adata
            Cells x genes; not a view. scvi-tools keeps its codes in ``obs["_scvi_*"]``, ``obsm["_scvi_*"]``
            and ``uns["_scvi_*"]``, as for any of its models.
        layer
            ``layers`` key of the matrix to model; None is ``X``.
        batch_key
            ``obs`` key of the batch, which the decoder is told, so that the code need not hold it.
        labels_key
            ``obs`` key of cell labels, which conditional models are told.
        size_factor_key
            ``obs`` key of each cell's size factor, in counts; without it the cell's total count is used.
            Only count likelihoods use it.
        categorical_covariate_keys, continuous_covariate_keys
            ``obs`` keys of further covariates, which the decoder is told.
        unlabeled_category
            Label of cells whose label is not known, e.g. ``"unknown"``. New cells whose label is missing or
            new to the model then count as unknown; without it they are an error.

        Raises
        ------
        DataError
            If `adata` is a view, a key or layer is missing, a value is missing, or gene names repeat.
        """
        arguments = {
            "layer": layer,
            "batch_key": batch_key,
            "labels_key": labels_key,
            "size_factor_key": size_factor_key,
            "categorical_covariate_keys": categorical_covariate_keys,
            "continuous_covariate_keys": continuous_covariate_keys,
            "unlabeled_category": unlabeled_category,
        }
        check_registrable(adata, arguments)
        register(cls, adata, arguments)

    @classmethod
    def from_preset(cls, name: str, adata: AnnData, **overrides: Any) -> Self:
        """Build the model with a document's settings, for the architecture and for :meth:`train`.

        Parameters
        ----------
        name
            A key of :attr:`PRESETS`.
        adata
            Cells, set up with :meth:`setup_anndata`.
        **overrides
            Arguments of the constructor that replace the preset's.

        Raises
        ------
        DataError
            If there is no such preset.
        """
        if name not in cls.PRESETS:
            raise DataError(f"{cls.__name__} has no preset {name!r}; there are {sorted(cls.PRESETS)}")
        preset = cls.PRESETS[name]
        model = cls(adata, **(preset["model"] | overrides))
        model.train_defaults |= preset["train"]
        return model

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        batch_size: int | None = None,
        early_stopping: bool = False,
        early_stopping_patience: int = 45,
        lr: float | None = None,
        lr_schedule: Schedule | None = None,
        weight_decay: float | None = None,
        gradient_clip: float | None = None,
        precision: Any = None,
        checkpoint_dir: str | os.PathLike | None = None,
        resume: bool = False,
        seed: int | None = None,
        enable_progress_bar: bool = True,
    ) -> None:
        """Train the model on the cells it was built with.

        Parameters
        ----------
        max_epochs
            Passes over the training cells. Default: the model's (a preset's); else as many as make 2,500
            optimiser steps; more for larger data, up to 100 or as many as make 10,000 steps; at least 20.
        accelerator, devices
            Lightning's: ``"cpu"``, ``"gpu"``, ``"mps"``, ``"auto"``; ``devices="auto"`` takes one.
        train_size
            Share of cells to train on, the rest is held out. Default: all cells, or 0.9 with
            `early_stopping`.
        validation_size
            Share of cells to hold out; default: what `train_size` leaves.
        shuffle_set_split
            Hold out random cells; False holds out the last ones.
        batch_size
            Cells per step. Default: the model's; else 128, fewer on small data so that an epoch has 8 steps.
        early_stopping
            Stop when the held-out ELBO has not improved for `early_stopping_patience` epochs, and put the
            best weights back.
        early_stopping_patience
            See `early_stopping`.
        lr, lr_schedule, weight_decay, gradient_clip
            Adam's peak rate, its factor as a function of progress (0 to 1), decoupled weight decay, and the
            largest gradient norm; default: the model's. A query model that is not `unfrozen` has no decay.
        precision
            Lightning's: ``"bf16-mixed"``, ``"64-true"``; None is 32-bit. Weights in half precision
            (``"bf16-true"``) are refused.
        checkpoint_dir
            Folder that receives ``last.ckpt`` after every epoch; a kill leaves the one before whole.
        resume
            Go on from that checkpoint, if there is one, as if the run had not been broken.
        seed
            Of everything random in training and in the split; default: the model's. The same seed gives the
            same bits on the same CPU.
        enable_progress_bar
            Draw one line of progress on stderr.

        Returns
        -------
        Nothing; :attr:`history` holds a curve per loss term, weight and rate. After Ctrl-C the model is
        usable with the weights it had, and `KeyboardInterrupt` is raised.

        Raises
        ------
        DataError
            If there are too few cells, or an argument is out of range.
        TrainingDivergedError
            At the first loss, or after the first epoch with weights, not finite; the weights of the last
            whole epoch are put back.
        ModelFileError
            If the checkpoint is damaged, or of a run on other cells, in other batches or of another seed.
        OSError
            If a checkpoint cannot be written; the one before and the weights are kept.
        """
        if precision in ("16-true", "bf16-true"):
            raise DataError(f"precision={precision!r} keeps weights in half precision; use 'bf16-mixed'")
        check_something_to_train(self.module)
        defaults = self.train_defaults
        seed = self.params["seed"] if seed is None else seed
        cells = self._training_cells()
        train, held_out = _split(
            cells.n_obs, train_size, validation_size, early_stopping, shuffle_set_split, seed
        )
        if batch_size is None:
            batch_size = defaults["batch_size"] or default_batch_size(len(train))
        if max_epochs is None:
            max_epochs = defaults["max_epochs"] or default_epochs(len(train), batch_size)
        if batch_size < 2 or max_epochs < 1:
            raise DataError(f"batch_size must be at least 2 and max_epochs 1, got {batch_size}, {max_epochs}")
        loader = CellLoader(cells, train, batch_size, shuffle=True, seed=seed, sparse_cells=True)
        plan = TrainingPlan(
            self.module,
            total_steps=max_epochs * len(loader),
            lr=defaults["lr"] if lr is None else lr,
            lr_schedule=defaults["lr_schedule"] if lr_schedule is None else lr_schedule,
            weight_decay=defaults["weight_decay"] if weight_decay is None else weight_decay,
            free=self.module.free,
        )
        self.module.train()
        interrupted = True
        try:
            interrupted = fit(
                plan,
                loader,
                CellLoader(cells, held_out, INFERENCE_BATCH) if len(held_out) else None,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                precision=precision,
                gradient_clip=defaults["gradient_clip"] if gradient_clip is None else gradient_clip,
                early_stopping_patience=early_stopping_patience if early_stopping else None,
                seed=seed,
                progress_title=f"Training {type(self).__name__}" if enable_progress_bar else None,
                checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
                resume=resume,
            )
        finally:
            self.module.eval()
            self.history_ = _history(plan.records)
            self.train_indices_, self.validation_indices_ = train, held_out
            self.is_trained_ = bool(plan.records) or self.is_trained_
            if self.is_trained_:
                if self.module.free is None:
                    self._after_training()
                self.templates_ = self._remember(train, seed)
        if interrupted:
            raise KeyboardInterrupt

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
            _sound.check_sizes(params, spec, weights)
            model = cls(None, registry=registry, **params)
            model.module.load_state_dict(weights)
            _sound.check_unit(model.module.state_dict().get("latent.unit", torch.ones(1)))
            if templates is not None:
                _sound.check_templates(templates, spec)
                check_posterior(model.module, templates)
            model.templates_ = templates
            defaults = dict(_files.decode(record["train_defaults"]))
            _sound.check_train_defaults(defaults, model.train_defaults)
            model.train_defaults |= defaults
            model.history_ = _files.history_from_json(record["history"])
            if "free" in record:
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

    @classmethod
    def load_query_data(
        cls, adata: AnnData, reference_model: "Self | str | os.PathLike", *, unfrozen: bool = False
    ) -> Self:
        """Let a trained model learn the batches of new cells, and leave all else as it is (scArches).

        The result is a new model that knows the batches of the reference and those of `adata`, with the
        weights of the reference. A new batch starts as the mean of the known ones. :meth:`train` then moves
        only the weights of new batches: the column of the decoder's first layer, that of the encoder's first
        layer if ``encode_covariates=True``, and the dispersions of ``dispersion="gene-batch"``. Nothing else
        moves: there is no weight decay, batch norm keeps its running means, and nothing is dropped out. So
        cells of the known batches keep their codes, to the bit on a CPU.

        Without ``encode_covariates`` the encoder does not see the batch: training improves what is decoded,
        and codes stay what ``reference_model.get_latent_representation`` would give if it knew the batch.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others; see :meth:`prepare_query_anndata`) and
            keys. Not to be set up; nothing is written to it.
        reference_model
            A trained model of this class that was set up with ``batch_key``, or the folder of a saved one. It
            is not changed.
        unfrozen
            Train all weights. Codes of the reference's cells then change as well.

        Returns
        -------
        A model with `adata` as its cells, which can embed them at once; :meth:`train` it to fit new batches.

        Raises
        ------
        DataError
            If the reference has no batch key, or `adata` lacks genes or keys, or has labels or covariates
            that the reference does not know.
        NotTrainedError
            If the reference is not trained.

        References
        ----------
        Lotfollahi et al., Nature Biotechnology 2022, `doi:10.1038/s41587-021-01001-7
        <https://doi.org/10.1038/s41587-021-01001-7>`__.

        Examples
        --------
        >>> import latentcell as lc
        >>> cells = lc.datasets.simulate_groups(seed=0)
        >>> cells.obs["batch"] = ["a", "b", "c"] * 30
        >>> old, new = cells[cells.obs["batch"] != "c"].copy(), cells[cells.obs["batch"] == "c"].copy()
        >>> lc.model.AE.setup_anndata(old, batch_key="batch")
        >>> reference = lc.model.AE(old, n_latent=2, hidden=(10,), encode_covariates=True)
        >>> reference.train(max_epochs=1, enable_progress_bar=False)
        >>> query = lc.model.AE.load_query_data(new, reference)
        >>> query.train(max_epochs=1, enable_progress_bar=False)
        >>> query.get_latent_representation().shape
        (30, 2)
        >>> bool((query.get_latent_representation(old) == reference.get_latent_representation()).all())
        True
        """
        return extend(cls, adata, reference_of(cls, reference_model), unfrozen=unfrozen)

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
        self._cells(adata)
        self._adata = adata

    @property
    def gene_likelihood(self) -> str:
        """Likelihood in use: what ``gene_likelihood="auto"`` came to."""
        return self.module.likelihood.name

    def _after_training(self) -> None:
        """What a model takes from its training cells once its weights are final."""

    def _remember(self, rows: np.ndarray, seed: int) -> Templates:
        """What new cells take from the training cells `rows`; labels even if the model does not use them."""
        cells = collect(
            self._adata_or_own(None), self.spec, kind=self.module.likelihood.data_kind, check=False
        )
        return remember(self.module, cells, rows, seed, INFERENCE_BATCH)

    def _cells(self, adata: AnnData | None) -> Cells:
        """Checked cells of `adata`, or those the model was built with."""
        if adata is None or adata is self.adata:
            return self._training_cells()
        return self._collect(adata, check=True)

    def _training_cells(self) -> Cells:
        return self._collect(self._adata_or_own(None), check=False)

    def _adata_or_own(self, adata: AnnData | None) -> AnnData:
        found = self.adata if adata is None else adata
        if found is None:
            raise DataError("the model was loaded without cells; pass adata=..., or load(dir, adata)")
        return found

    def _collect(self, adata: AnnData, *, check: bool) -> Cells:
        spec = self.spec if self.module.uses_labels else self.spec.without_labels()
        return collect(adata, spec, kind=self.module.likelihood.data_kind, check=check)

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


def default_epochs(n_cells: int, batch_size: int) -> int:
    """Passes that train enough and not too long: results depend on steps more than on passes.

    Small data get as many passes as make 2,500 optimiser steps. Larger data, which have more to learn and are
    slower to be overfitted, get 100, or as many as make 10,000 steps if those are fewer; at least 20.

    Examples
    --------
    >>> [default_epochs(n, 128) for n in (300, 2638, 5000, 20_000, 100_000)]
    [834, 120, 100, 64, 20]
    """
    steps = math.ceil(n_cells / batch_size)
    return max(20, math.ceil(2500 / steps), min(100, math.ceil(10_000 / steps)))


def _split(
    n_obs: int,
    train_size: float | None,
    validation_size: float | None,
    early_stopping: bool,
    shuffle: bool,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of training and held-out cells."""
    if train_size is None:
        train_size = (
            1.0 - validation_size if validation_size is not None else (0.9 if early_stopping else 1.0)
        )
    if not 0.0 < train_size <= 1.0:
        raise DataError(f"train_size must lie in (0, 1], got {train_size}")
    n_train = math.ceil(train_size * n_obs)
    n_held = n_obs - n_train if validation_size is None else math.floor(validation_size * n_obs)
    if n_held < 0 or n_train + n_held > n_obs:
        raise DataError(
            f"train_size + validation_size must not exceed 1, got {train_size} + {validation_size}"
        )
    if n_train < 2:
        raise DataError(f"training needs at least 2 cells, there are {n_train} (of {n_obs} in adata)")
    if early_stopping and n_held < 1:
        raise DataError("early_stopping needs held-out cells; pass train_size below 1")
    order = np.random.default_rng(seed).permutation(n_obs) if shuffle else np.arange(n_obs)
    return np.sort(order[:n_train]), np.sort(order[n_train : n_train + n_held])


def _history(records: list[dict[str, float]]) -> dict[str, pd.DataFrame]:
    index = pd.Index([int(record["epoch"]) for record in records], name="epoch")
    names = [name for name in (records[0] if records else {}) if name != "epoch"]
    return {name: pd.DataFrame({name: [r[name] for r in records]}, index=index) for name in names}

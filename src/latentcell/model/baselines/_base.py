"""What simple generators share: set up, train, generate, save, load, in the manner of the other models."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse
from scvi.model.base import BaseModelClass

from latentcell import __version__, _keys
from latentcell._checks import Kind
from latentcell._errors import DataError, NotTrainedError
from latentcell._scvi import register
from latentcell.model import _files, _sound
from latentcell.model._cells import (
    DataSpec,
    check_registrable,
    collect,
    gene_positions,
    kind_of,
)
from latentcell.model._generation import (
    CHUNK,
    Labels,
    Output,
    batch_code,
    check_output,
    collect_cells,
    new_obs,
    new_var,
    template_rows,
    wanted_labels,
)
from latentcell.model._set_up import check_set_up
from latentcell.model._streams import check_out
from latentcell.model._templates import Templates, split_tensors
from latentcell.model._trained_on import checked, trained_on
from latentcell.train.loading import Cells

from ._groups import Draw, draw_in_order, groups_of, members_of


class AbstractBaseline(BaseModelClass):
    """A generator without a network, fitted to each group of cells: those of one label in one batch.

    A final class fits its groups (:meth:`_fit`), draws from them (:meth:`_drawer`), and names what is saved.

    Attributes
    ----------
    spec
        What the model wants of an AnnData.
    params
        Arguments the model was built with.
    templates_
        Label, batch and number of cells of each group; None before :meth:`train`.
    trained_on_
        Which cells the model was fitted to, in numbers (no names); None before :meth:`train`.
    """

    is_trained_: bool
    templates_: Templates | None = None
    trained_on_: dict[str, Any] | None = None

    def __init__(
        self,
        adata: AnnData | None,
        registry: dict | None,
        params: dict[str, Any],
        *,
        counts_only: bool = False,
    ) -> None:
        check_set_up(type(self), adata, registry)
        super().__init__(adata, registry=registry)
        self.params = params
        self.spec = DataSpec.from_registry(self.registry)
        self._kind: Kind = "counts"
        if adata is not None:
            if not counts_only:
                self._kind = kind_of(adata, self.spec.layer)
            self._collect(adata, check=True)
        self._model_summary_string = f"{type(self).__name__} of {len(self.spec.genes)} genes"

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
    ) -> None:
        """Tell the model where in `adata` to find its data. Nothing is copied.

        Parameters
        ----------
        adata
            Cells x genes; not a view.
        layer
            ``layers`` key of the matrix to model; None is ``X``.
        batch_key
            ``obs`` key of the batch. Every label is then fitted in each batch by itself: from fewer cells.
        labels_key
            ``obs`` key of cell labels, in each of which the model is fitted by itself; without it all cells
            are one kind.

        Raises
        ------
        DataError
            If `adata` is a view, a key or layer is missing, a value is missing, or gene names repeat.
        """
        nothing = dict.fromkeys(
            ("size_factor_key", "categorical_covariate_keys", "continuous_covariate_keys")
        )
        arguments = nothing | {"layer": layer, "batch_key": batch_key, "labels_key": labels_key}
        check_registrable(adata, arguments)
        register(cls, adata, arguments | {"unlabeled_category": None})

    def train(self, *, seed: int | None = None, enable_progress_bar: bool = True) -> None:
        """Fit the model to all cells it was built with.

        Parameters
        ----------
        seed
            Of what is random in the fit; default: the model's.
        enable_progress_bar
            As in other models; there is no bar, as the fit takes seconds.

        Raises
        ------
        DataError
            If the model was loaded without cells, or there are too few.
        """
        if self.adata is None:
            raise DataError("the model was loaded without cells; use load(dir, adata)")
        cells = self._collect(self.adata, check=False)
        groups = groups_of(cells)
        self._fit(cells, members_of(groups, cells), self.params["seed"] if seed is None else seed)
        self.templates_, self.is_trained_ = groups, True
        rows = np.arange(cells.n_obs)
        self.trained_on_ = trained_on(self.adata.obs_names, (rows, rows[:0]), self.params["seed"], None)

    def generate(
        self,
        n_cells: int | None = None,
        *,
        labels: Labels = None,
        batch: Any = None,
        genes: Sequence[str] | None = None,
        output: Output = "sample",
        seed: int | None = None,
        chunk_size: int | None = None,
        out: str | os.PathLike | None = None,
    ) -> AnnData | Path:
        """Draw new cells.

        Parameters
        ----------
        n_cells
            Number of cells. Default: as many as the model was trained on, or as `labels` name.
        labels
            Labels by name: ``{"B cells": 200, "Dendritic": 500}``, one name for `n_cells` cells, or one name
            per cell. Default: drawn in the proportions of the training cells.
        batch
            Batch of all cells; None: drawn, among cells of the label, in the training cells' proportions.
        genes
            Return these genes only, in this order.
        output
            ``"sample"``; ``"counts"`` does the same and refuses models that do not give counts.
        seed
            Of all draws; default: the model's. Same seed, same bits on the same CPU.
        chunk_size
            Cells drawn at once; another number gives other draws. Default: 1,024.
        out
            Write to this path (.h5ad or .zarr) chunk by chunk instead.

        Returns
        -------
        AnnData (new cells x genes): ``X`` a csr matrix of counts, or an array on the scale that
        ``uns["latentcell"]["scale"]`` names, float32; ``obs["is_generated"]``, label, batch and, for counts,
        ``library_size``, the sum of each new cell's counts over all genes of the model. The path with `out`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming labels, batches or arguments that do not fit; and where there are no cells of a label in
            the batch, as these models cannot tell what is the batch's from what is the label's.
        """
        groups = self._known_groups
        check_output(output, counts=self._scale == "counts")
        if output == "mean":
            raise DataError(f"{type(self).__name__} has no mean of a cell; use output='sample'")
        chunk_size = CHUNK if chunk_size is None else chunk_size
        if chunk_size < 1:
            raise DataError(f"chunk_size must be at least 1, got {chunk_size}")
        if out is not None:
            check_out(out)
        columns = None if genes is None else gene_positions(self.spec, genes)
        wanted, code = wanted_labels(self.spec, n_cells, labels), batch_code(self.spec, batch)
        seed = self.params["seed"] if seed is None else seed
        rows = template_rows(groups, self.spec, wanted, n_cells, code, np.random.default_rng(seed))
        obs = new_obs(groups, rows, self.spec, None)
        if code is not None and (obs[self.spec.batch_key] != batch).any():
            found = obs.loc[obs[self.spec.batch_key] != batch]
            names = "" if self.spec.labels_key is None else f" of {found[self.spec.labels_key].iloc[0]!r}"
            raise DataError(f"batch: there are no training cells{names} in {batch!r}")
        draw, library, codes = self._drawer(), [np.empty(0)], []

        def blocks() -> Iterator[Any]:
            for start in range(0, len(rows), chunk_size):
                rng = np.random.default_rng([seed, start])
                x, z = draw_in_order(draw, rows[start : start + chunk_size], rng)
                x = x.astype(np.float32, copy=False)
                _sound.check_results(torch.from_numpy(x.data if sparse.issparse(x) else x), "a new cell")
                if z is not None:
                    codes.append(z)
                if self._scale == "counts":
                    library.append(np.asarray(x.sum(axis=1)).ravel())
                elif isinstance(x, sparse.csr_matrix):
                    x = x.toarray()
                yield x if columns is None else x[:, columns]

        def last() -> dict[str, dict[str, np.ndarray]]:
            sizes = np.concatenate(library).astype(np.float32)
            return {
                "obs": {"library_size": sizes} if self._scale == "counts" else {},
                "obsm": {_keys.latent(type(self).__name__.lower()): np.concatenate(codes)} if codes else {},
            }

        uns = {
            "model": type(self).__name__,
            "latentcell": __version__,
            "gene_likelihood": self.gene_likelihood,
            "source": "baseline",
            "scale": self._scale,
            "output": output,
            "seed": seed,
        }
        var = new_var(self.adata, self.spec.genes if genes is None else list(genes))
        return collect_cells(blocks(), obs, var, uns, out, last)

    def save(self, dir_path: str | os.PathLike, overwrite: bool = False, save_anndata: bool = False) -> None:
        """Save the model as a folder of two files: arrays (safetensors) and everything else (JSON).

        Parameters
        ----------
        dir_path
            Folder to write.
        overwrite
            Replace a model that is there already, and the cells saved with it.
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
            "train_defaults": {},
            "is_trained": self.templates_ is not None,
            "history": None,
            "kind": self._kind,
        }
        if self.trained_on_ is not None:
            record["trained_on"] = self.trained_on_
        tensors: dict[str, torch.Tensor] = {}
        if self.templates_ is not None:
            arrays = {name: torch.from_numpy(np.array(values)) for name, values in self._arrays().items()}
            tensors = arrays | self.templates_.to_tensors()
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
            Cells to attach, with the model's genes (in any order) and keys.
        device
            As in other models; these compute on the CPU wherever it points.

        Raises
        ------
        ModelFileError
            If the folder is not a model of this class, is damaged, or was written by a newer version.
        DataError
            If `adata` lacks genes, keys or categories of the model.
        """
        folder = Path(dir_path)
        record, tensors = _files.read(cls, folder, "cpu")
        with _sound.reading(folder):
            registry = _files.registry_from_json(record["registry"])
            _sound.check_spec(DataSpec.from_registry(registry))
            model = cls(None, registry=registry, **_files.decode(record["params"]))
            if record["kind"] not in get_args(Kind):
                raise ValueError(f"kind {record['kind']!r}")
            model._kind = record["kind"]
            model.trained_on_ = checked(record.get("trained_on"))
            fitted, model.templates_ = split_tensors(tensors)
            model.is_trained_ = model.templates_ is not None
            if model.templates_ is not None:
                _sound.check_templates(model.templates_, model.spec)
                # a Poisson gene has an infinite size, the first value of a gene a score of minus infinity
                _sound.check_finite(fitted, infinite=(".size", ".score"))
                model._restore({name: value.numpy() for name, value in fitted.items()})
        if adata is not None:
            model.attach(adata)
        return model

    def attach(self, adata: AnnData) -> None:
        """Make `adata` the cells of the model.

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

    @property
    @abstractmethod
    def gene_likelihood(self) -> str:
        """What ``uns["latentcell"]["gene_likelihood"]`` says of the distribution of single genes."""

    @property
    def _scale(self) -> str:
        """What drawn values are: ``"counts"``, or ``"data"`` for the scale of the data."""
        return "counts" if self._kind == "counts" else "data"

    @property
    def _known_groups(self) -> Templates:
        if self.templates_ is None:
            raise NotTrainedError(f"this {type(self).__name__} has not been trained; call train() first")
        return self.templates_

    @abstractmethod
    def _fit(self, cells: Cells, members: list[np.ndarray], seed: int) -> None:
        """Fit every group, given the rows of its cells."""

    @abstractmethod
    def _drawer(self) -> Draw:
        """How new cells of a group are drawn."""

    @abstractmethod
    def _arrays(self) -> dict[str, np.ndarray]:
        """What was fitted, by name, to be saved."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`_arrays` gave."""

    def _collect(self, adata: AnnData, *, check: bool) -> Cells:
        return collect(adata, self.spec, kind="counts" if self._kind == "counts" else "finite", check=check)

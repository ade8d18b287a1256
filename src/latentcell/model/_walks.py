"""Walks through latent space, decoded: between two places, and along one dimension."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from latentcell import _keys
from latentcell._errors import DataError

from ._decoding import AbstractDecoding
from ._generation import Output


class AbstractWalks(AbstractDecoding):
    """A model whose latent space can be walked through: adds paths and traversals."""

    def interpolate(
        self,
        start: str | np.ndarray,
        end: str | np.ndarray,
        steps: int = 10,
        *,
        labels: Any = None,
        batch: Any = None,
        covariates: Mapping[str, Any] | None = None,
        library_size: float | np.ndarray | None = None,
        genes: Sequence[str] | None = None,
        output: Output = "mean",
        seed: int | None = None,
    ) -> AnnData:
        """Decode the straight path between two places in latent space.

        A straight path may lead through places where no cell is; compare codes on it with real ones before
        reading it as a trajectory.

        Parameters
        ----------
        start, end
            A label (the mean of its training cells' codes), the name of a cell of the model's AnnData (its
            code), or a code (n_latent).
        steps
            Places on the path, both ends included.
        labels, batch, covariates, library_size, genes, output, seed
            See :meth:`decode`.

        Returns
        -------
        AnnData (steps x genes) as from :meth:`decode`, with ``obs["step"]`` from 0 (`start`) to 1 (`end`).

        Raises
        ------
        DataError
            If a name is neither a label nor a cell, or both, or an argument does not fit.
        """
        if steps < 2:
            raise DataError(f"steps must be at least 2, got {steps}")
        self._require_trained()
        a, b = self._place(start, "start"), self._place(end, "end")
        share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
        new = self._decoded(
            (1 - share) * a + share * b, labels, batch, covariates, library_size, genes, output, seed
        )
        new.obs["step"] = share[:, 0].astype(float)
        return new

    def traverse(
        self,
        dim: int,
        values: Sequence[float] | None = None,
        *,
        at: str | np.ndarray | None = None,
        labels: Any = None,
        batch: Any = None,
        covariates: Mapping[str, Any] | None = None,
        library_size: float | np.ndarray | None = None,
        genes: Sequence[str] | None = None,
        output: Output = "mean",
        seed: int | None = None,
    ) -> AnnData:
        """Decode codes that differ in one latent dimension only: what that dimension does.

        Parameters
        ----------
        dim
            The dimension, from 0.
        values
            Its values. Default: 9 steps between the 1st and the 99th percentile of the training cells' codes.
        at
            The other dimensions: a label, a cell or a code, as in :meth:`interpolate`. Default: the mean of
            the training cells' codes.
        labels, batch, covariates, library_size, genes, output, seed
            See :meth:`decode`.

        Returns
        -------
        AnnData (values x genes) as from :meth:`decode`, with the values in ``obs["value"]`` and the dimension
        in ``uns["latentcell"]["dim"]``; :func:`latentcell.pl.latent_traversal` draws it.

        Raises
        ------
        DataError
            If there is no such dimension, or an argument does not fit.
        """
        self._require_trained()
        codes = self._mean_codes()
        if not 0 <= dim < codes.shape[1]:
            raise DataError(f"dim={dim}: the model's dimensions are 0 to {codes.shape[1] - 1}")
        if values is None:
            low, high = np.percentile(codes[:, dim], [1, 99])
            values = np.linspace(low, high, 9).tolist()
        base = self._average(codes, None) if at is None else self._place(at, "at")
        z = np.repeat(base[None], len(values), axis=0)
        z[:, dim] = np.asarray(values, dtype=np.float32)
        new = self._decoded(z, labels, batch, covariates, library_size, genes, output, seed)
        new.obs["value"] = z[:, dim].astype(float)
        new.uns[_keys.UNS]["dim"] = int(dim)
        return new

    @abstractmethod
    def _code_of(self, row: int) -> np.ndarray:
        """Code (n_latent) of a cell of the model's AnnData, in the users' units."""

    def _decoded(self, z: np.ndarray, labels: Any, batch: Any, covariates: Any, *rest: Any) -> AnnData:
        library_size, genes, output, seed = rest
        new = self.decode(
            z,
            labels=labels,
            batch=batch,
            covariates=covariates,
            library_size=library_size,
            genes=genes,
            output=output,
            seed=seed,
        )
        if isinstance(new, Path):
            raise TypeError("decode wrote a file")
        return new

    def _place(self, given: str | np.ndarray, argument: str) -> np.ndarray:
        """A code (n_latent) from a label, else a cell's name, or itself."""
        if np.ndim(given):
            return self._checked_codes(np.asarray(given)[None])[0]
        is_label = self.spec.labels is not None and given in self.spec.labels
        is_cell = self.adata is not None and given in self.adata.obs_names
        if is_label and self.spec.labels is not None:
            return self._average(self._mean_codes(), self.spec.labels.index(given))
        if is_cell and self.adata is not None:
            row = int(self.adata.obs_names.get_loc(given))
            return self._code_of(row)
        raise DataError(
            f"{argument}={given!r} is neither a label of the model ({self.spec.labels}) nor one of its cells"
        )

    def _mean_codes(self) -> np.ndarray:
        templates = self._templates()
        with torch.inference_mode():
            codes = self.module.latent.mean(templates.posterior_of(np.arange(len(templates)))).numpy()
        return self._as_seen(codes, "a training cell")

    def _average(self, codes: np.ndarray, label: int | None) -> np.ndarray:
        templates = self._templates()
        rows = np.arange(len(templates))
        if label is not None:
            rows = np.flatnonzero(templates.codes_of(REGISTRY_KEYS.LABELS_KEY) == label)
        return np.average(codes[rows], axis=0, weights=templates.weight[rows]).astype(np.float32)

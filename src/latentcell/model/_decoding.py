"""Codes decoded into new cells, chunk by chunk."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from torch import Tensor

from latentcell import __version__, _keys
from latentcell._errors import DataError, NotTrainedError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, Raw
from latentcell.train.run import local_random_state

from ._base import AbstractModel
from ._conditions import conditions
from ._generation import CHUNK, Output, check_output, collect_cells, new_var
from ._sound import check_results, drawing
from ._streams import check_out
from ._templates import Templates

LibrarySize = Literal["sample"] | float | np.ndarray
Draw = Callable[[slice, np.random.Generator], tuple[Tensor, Tensor, Batch]]
"""Codes (cells x n_latent), library sizes (cells x 1) and covariates of some of the new cells."""


class AbstractDecoding(AbstractModel):
    """A model that turns codes into cells."""

    def decode(
        self,
        z: np.ndarray,
        *,
        labels: Any = None,
        batch: Any = None,
        covariates: Mapping[str, Any] | None = None,
        library_size: float | np.ndarray | None = None,
        genes: Sequence[str] | None = None,
        output: Output = "mean",
        seed: int | None = None,
        chunk_size: int | None = None,
        out: str | os.PathLike | None = None,
    ) -> AnnData | Path:
        """Decode codes that you give, into cells.

        Parameters
        ----------
        z
            Codes (cells x n_latent), e.g. rows of :meth:`get_latent_representation`.
        labels, batch
            Label and batch to decode in, one name or one per cell. A model that is told them needs them.
        covariates
            Further covariates by ``obs`` key, one value or one per cell. A model with covariates needs them.
        library_size
            Counts per cell, one number or one per cell. Default: the median of the training cells.
        genes, seed, chunk_size, out
            See :meth:`generate`.
        output
            ``"mean"``: the likelihood's mean; ``"sample"``, ``"counts"``: see :meth:`generate`.

        Returns
        -------
        See :meth:`generate`.

        Raises
        ------
        DataError
            If the codes have another number of dimensions or are not finite, or a name is unknown or missing.
        """
        self._require_trained()
        codes = self._checked_codes(z)
        needs_labels = self.module.uses_labels
        obs, told = conditions(
            self.spec, len(codes), labels, batch, covariates or {}, needs_labels=needs_labels
        )
        sizes = self._sizes(self._median_library() if library_size is None else library_size, len(codes))
        given = torch.from_numpy(codes * self._unit)

        def draw(at: slice, rng: np.random.Generator) -> tuple[Tensor, Tensor, Batch]:
            here = {name: values[at] for name, values in told.items()}
            size = torch.ones((len(given[at]), 1)) if sizes is None else sizes[at]
            return given[at], size, here

        seed = self.params["seed"] if seed is None else seed
        return self._new_cells(draw, obs, genes, output, seed, chunk_size, out, {"source": "codes"})

    def _raw(self, z: Tensor, batch: Batch, size: Tensor) -> Raw:
        """Raw outputs (cells x genes) of codes at library sizes (cells x 1)."""
        return self.module.decode_raw(z, batch)

    @abstractmethod
    def _draw(self, raw: Raw, size: Tensor) -> Tensor:
        """Expression (cells x genes) drawn from raw outputs."""

    def _new_cells(
        self,
        draw: Draw,
        obs: pd.DataFrame,
        genes: Sequence[str] | None,
        output: Output,
        seed: int,
        chunk_size: int | None,
        out: str | os.PathLike | None,
        how: dict[str, Any],
    ) -> AnnData | Path:
        """Draw chunk by chunk and collect."""
        counts = isinstance(self.module.likelihood, CountLikelihood)
        check_output(output, counts=counts)
        chunk_size = CHUNK if chunk_size is None else chunk_size
        if chunk_size < 1:
            raise DataError(f"chunk_size must be at least 1, got {chunk_size}")
        if out is not None:
            check_out(out)
        columns = None if genes is None else self._gene_positions(genes)
        n, device = len(obs), self.module.device
        codes = np.empty((n, self._n_latent), dtype=np.float32)
        library = np.empty(n, dtype=np.float32)

        def blocks() -> Iterator[Any]:
            for start in range(0, n, chunk_size):
                at = slice(start, min(start + chunk_size, n))
                # seeds per chunk, so that between two of them the caller has its own random state
                ours, theirs = np.random.SeedSequence([seed, start]).generate_state(2)
                with local_random_state(int(theirs)), torch.inference_mode():
                    z, size, batch = draw(at, np.random.default_rng(ours))
                    codes[at], library[at] = z.cpu().numpy(), size[:, 0].cpu().numpy()
                    here = {name: tensor.to(device) for name, tensor in batch.items()}
                    values = self._decode(z.to(device), here, size.to(device), output, columns)
                yield values

        def last() -> dict[str, dict[str, np.ndarray]]:
            sizes = {"library_size": library} if counts else {}
            seen = self._as_seen(codes, "a new cell")
            return {"obs": sizes, "obsm": {_keys.latent(type(self).__name__.lower()): seen}}

        uns = {
            "model": type(self).__name__,
            "latentcell": __version__,
            "gene_likelihood": self.gene_likelihood,
            "output": output,
            "seed": seed,
            **how,
        }
        var = new_var(self.adata, self._gene_names(genes))
        return collect_cells(blocks(), obs, var, uns, out, last)

    def _decode(self, z: Tensor, batch: Batch, size: Tensor, output: Output, columns: Any) -> Any:
        raw, likelihood = self._raw(z, batch, size), self.module.likelihood
        values = likelihood.mean(raw, size)
        check_results(values, "a new cell")
        if output != "mean":
            with drawing():
                values = self._draw(raw, size)
            check_results(values, "a new cell")
        drawn = (values if columns is None else values[:, columns]).cpu().numpy()
        counts = output != "mean" and isinstance(likelihood, CountLikelihood)
        return sparse.csr_matrix(drawn) if counts else drawn

    def _templates(self) -> Templates:
        if self.templates_ is None:
            raise NotTrainedError("this model knows no training cells; train() it again")
        return self.templates_

    def _sizes(self, library_size: LibrarySize, n: int) -> Tensor | None:
        """Library sizes as given (cells x 1); None for the templates'."""
        if isinstance(library_size, str):
            if library_size != "sample":
                raise DataError(f"library_size must be 'sample', a number or an array, got {library_size!r}")
            return None
        if not isinstance(self.module.likelihood, CountLikelihood):
            raise DataError(f"library_size is for counts; the likelihood is {self.gene_likelihood!r}")
        sizes = np.array(library_size, dtype=np.float32)  # a copy: what a frame holds may be read-only
        if sizes.ndim == 0:
            sizes = np.full(n, sizes)
        if sizes.shape != (n,) or not (sizes > 0).all() or not np.isfinite(sizes).all():
            raise DataError(f"library_size must be positive: one number, or one per new cell ({n})")
        return torch.from_numpy(sizes)[:, None]

    def _median_library(self) -> LibrarySize:
        if not isinstance(self.module.likelihood, CountLikelihood):
            return "sample"
        return float(np.median(self._templates().library))

    def _checked_codes(self, z: np.ndarray) -> np.ndarray:
        codes = np.asarray(z, dtype=np.float32)
        n_latent = self._n_latent
        if codes.ndim != 2 or codes.shape[1] != n_latent or not len(codes):
            raise DataError(f"z must be cells x {n_latent} (n_latent), its shape is {np.shape(z)}")
        if not np.isfinite(codes).all():
            row = int(np.flatnonzero(~np.isfinite(codes).all(axis=1))[0])
            raise DataError(f"z holds values that are not finite, first in row {row}")
        return codes

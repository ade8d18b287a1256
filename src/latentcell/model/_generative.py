"""Methods of models that decode codes into new cells: draws, codes given by hand, paths and traversals."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell import __version__, _keys
from latentcell._errors import DataError, NotTrainedError
from latentcell.module.autoencoder import Batch
from latentcell.nn.counts import CountLikelihood, Raw
from latentcell.train.run import local_random_state

from ._base import AbstractModel
from ._conditions import conditions
from ._generation import (
    CHUNK,
    Labels,
    Output,
    Source,
    batch_code,
    check_choice,
    check_output,
    collect_cells,
    new_obs,
    new_var,
    template_rows,
    wanted_labels,
)
from ._jacobian import AbstractJacobian
from ._sound import check_results, drawing
from ._sources import Draw as DrawCodes
from ._sources import codes_from
from ._streams import check_out
from ._templates import Templates

LibrarySize = Literal["sample"] | float | np.ndarray
Draw = Callable[[slice, np.random.Generator], tuple[Tensor, Tensor, Batch]]
"""Codes (cells x n_latent), library sizes (cells x 1) and covariates of some of the new cells."""


class AbstractGenerator(AbstractModel):
    """A model that turns codes into expression: draws new cells, decodes codes, walks between them."""

    SOURCES: ClassVar[tuple[Source, ...]] = ("mixture",)
    """Where codes of new cells may come from; the first is the default."""

    def generate(
        self,
        n_cells: int | None = None,
        *,
        labels: Labels = None,
        batch: Any = None,
        source: Source | None = None,
        library_size: LibrarySize = "sample",
        temperature: float = 1.0,
        genes: Sequence[str] | None = None,
        output: Output = "sample",
        seed: int | None = None,
        chunk_size: int | None = None,
        out: str | os.PathLike | None = None,
    ) -> AnnData | Path:
        """Draw new cells.

        Each new cell takes what a cell is besides its code (label, batch, covariates, depth) from a training
        cell drawn at random, its template; the code is drawn anew, and expression from the likelihood. What
        this needs of the training cells is kept with the model, so that a loaded model needs no data.

        Parameters
        ----------
        n_cells
            Number of cells. Default: as many as the model was trained on, or as `labels` name.
        labels
            Labels by name: ``{"B cells": 200, "Dendritic": 500}``, one name for `n_cells` cells, or one name
            per cell. They steer what is decoded in a conditional model (:class:`CVAE`); in others they
            choose the templates, whose posterior or mixture the code then comes from.
        batch
            Decode all cells in this batch; None: in their templates'.
        source
            Where codes come from. ``"posterior"``: the template's own posterior, which all together are the
            aggregated posterior; close to real cells. ``"prior"``: the model's prior, which knows no real
            cell's code. ``"mixture"``: normal mixtures fitted to the codes of each label (jointly with
            library size; number of components by BIC), the only one of models without a posterior (AE, DCA).
            Default: the first of these that the model has.
        library_size
            Counts per cell: ``"sample"`` takes the templates' (or the mixture's), else a number or one per
            new cell.
        temperature
            Factor on the noise of the code: the standard deviation of the posterior, the prior or the
            mixture's components (of a spike-and-slab code, the slab's). Below 1 cells are more typical and
            less diverse, above 1 less typical.
        genes
            Return these genes only, in this order.
        output
            ``"sample"`` draws from the likelihood: integer counts for count models; of continuous data no
            value is below the gene's smallest. Where the likelihood is a loss rather than a density (squared
            error with a fixed scale, cross-entropy of values between 0 and 1), noise has each gene's residual
            standard deviation over the training cells instead. ``"counts"`` does the same and refuses models
            of other data; ``"mean"`` gives the likelihood's mean.
        seed
            Of all draws; default: the model's. Same seed, same bits on the same CPU.
        chunk_size
            Cells drawn at once; another number gives other draws. Default: 1,024.
        out
            Write to this path (.h5ad or .zarr) chunk by chunk instead: memory stays bounded by `chunk_size`
            (and by codes and ``obs`` of all new cells).

        Returns
        -------
        AnnData (new cells x genes): ``X`` a csr matrix of counts, or an array on the scale of the data;
        ``obs["is_generated"]``, label, batch, covariates and ``library_size``; ``obsm["X_<model>"]``, the
        codes; ``uns["latentcell"]``, where it comes from; ``var``, a copy of that of the model's cells, as a
        part of them has it (ids, symbols, ``highly_variable``; what counts or averages cells is of those
        cells). A model of ``lc.tl`` has it as it was when it was trained. A model that was loaded
        without cells has only the names of genes: ``load(dir, adata)`` and :meth:`attach` bring the rest.
        The path with `out`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming labels, batches or arguments that do not fit.

        References
        ----------
        Marouf et al., Nature Communications 2020, `doi:10.1038/s41467-019-14018-z
        <https://doi.org/10.1038/s41467-019-14018-z>`__ (cells by label); Jun, VAExprs, Bioconductor,
        `doi:10.18129/B9.bioc.VAExprs <https://doi.org/10.18129/B9.bioc.VAExprs>`__ (mixtures of codes).
        """
        self._require_trained()
        source = self.SOURCES[0] if source is None else source
        check_choice("source", source, self.SOURCES)
        if not (np.isfinite(temperature) and temperature >= 0):
            raise DataError(f"temperature must be 0 or more, got {temperature}")
        wanted = wanted_labels(self.spec, n_cells, labels)
        if wanted is not None and source == "prior" and not self.module.covariates.n_labels:
            instead = ", or source='posterior'" if "posterior" in self.SOURCES else ""
            raise DataError(
                f"labels do not steer codes from the prior in this {type(self).__name__}; use CVAE, "
                f"VSC(conditional=True), ConditionalGAN{instead}"
            )
        seed = self.params["seed"] if seed is None else seed
        templates, code = self._templates(), batch_code(self.spec, batch)
        rows = template_rows(templates, self.spec, wanted, n_cells, code, np.random.default_rng(seed))
        obs = new_obs(templates, rows, self.spec, code)
        if wanted is None and source == "prior" and not self.module.uses_labels and self.spec.labels_key:
            del obs[self.spec.labels_key]  # such a cell has no label
        sizes = self._sizes(library_size, len(rows))
        codes_and_sizes = self._codes_from(source, temperature)

        def draw(at: slice, rng: np.random.Generator) -> tuple[Tensor, Tensor, Batch]:
            there = templates.take(rows[at])
            if code is not None:
                there[REGISTRY_KEYS.BATCH_KEY] = torch.full_like(there[REGISTRY_KEYS.BATCH_KEY], code)
            z, own = codes_and_sizes(rows[at], rng)
            return z, own if sizes is None else sizes[at], there

        how = {"source": source, "temperature": float(temperature)}
        return self._new_cells(draw, obs, genes, output, seed, chunk_size, out, how)

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

    # --- what they share ---

    @abstractmethod
    def _code_of(self, row: int) -> np.ndarray:
        """Code (n_latent) of a cell of the model's AnnData, in the users' units."""

    def _raw(self, z: Tensor, batch: Batch, size: Tensor) -> Raw:
        """Raw outputs (cells x genes) of codes at library sizes (cells x 1)."""
        return self.module.decode_raw(z, batch)

    @abstractmethod
    def _codes_from(self, source: Source, temperature: float) -> DrawCodes:
        """What draws codes and library sizes of new cells."""

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

    def _place(self, given: str | np.ndarray, argument: str) -> np.ndarray:
        """A code (n_latent) from a label, a cell's name, or itself."""
        if not isinstance(given, str):
            return self._checked_codes(np.asarray(given)[None])[0]
        is_label = self.spec.labels is not None and given in self.spec.labels
        is_cell = self.adata is not None and given in self.adata.obs_names
        if is_label and is_cell:
            raise DataError(f"{argument}={given!r} is both a label and a cell; pass a code")
        if is_label and self.spec.labels is not None:
            return self._average(self._mean_codes(), self.spec.labels.index(given))
        if is_cell and self.adata is not None:
            row = int(self.adata.obs_names.get_loc(given))
            return self._code_of(row)
        raise DataError(
            f"{argument}={given!r} is neither a label of the model ({self.spec.labels}) nor one of its cells"
        )


class AbstractGenerative(AbstractJacobian, AbstractGenerator):
    """A model that encodes cells and decodes codes: all that either does."""

    def _codes_from(self, source: Source, temperature: float) -> DrawCodes:
        module = self.module
        counts = isinstance(module.likelihood, CountLikelihood)
        return codes_from(
            source, module.latent, self._templates(), temperature, counts=counts, seed=self.params["seed"]
        )

    def _draw(self, raw: Raw, size: Tensor) -> Tensor:
        return self._templates().noise.draw(self.module.likelihood, raw, size)

    def _code_of(self, row: int) -> np.ndarray:
        name = str(self._adata_or_own(None).obs_names[row])
        return self._as_seen(self._map(lambda code, batch: code.mean, None, [row], None), [name])[0]

"""Expression as a model sees it: normalised, denoised, sampled."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sparse import COO, GCXS, concatenate
from torch import Tensor

from latentcell import __version__
from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Batch
from latentcell.nn.latents import Code

from ._cells import Indices, own_columns, rows_of
from ._expected import CP10K, AbstractExpected, in_batch
from ._streams import check_out, write_rows

Scale = Literal["counts", "cp10k", "log1p"]
Quantity = Literal["mean", "dispersion", "dropout"]


class AbstractExpression(AbstractExpected):
    """A model that gives expression: of single cells, of other batches than a cell's own."""

    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1.0,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        *,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        seed: int = 0,
        out: str | os.PathLike | None = None,
    ) -> pd.DataFrame | np.ndarray | Path:
        """Decoded expression of draws of each cell's code; names, order and meaning are scvi-tools'.

        For a fixed value per cell without noise of the code see :meth:`get_denoised`.

        Parameters
        ----------
        adata, indices
            See :meth:`get_latent_representation`.
        transform_batch
            Decode as if the cells came from this batch (a category of ``batch_key``), or from each of a list
            of them in turn, averaged. None takes each cell's own.
        gene_list
            Genes to return, in this order; None returns all of the model's.
        library_size
            Counts per cell to scale to: 1 gives shares of the cell's counts, 1e4 counts per 10,000,
            ``"latent"`` each cell's own depth. Only for count likelihoods.
        n_samples
            Draws of the code per cell (one and the same for a code without noise).
        n_samples_overall
            Instead, this many draws in all, of cells drawn with replacement.
        batch_size
            Cells at once; no influence on the result, but on draws.
        return_mean
            Average over the draws; False returns all of them.
        return_numpy
            Return an array instead of a frame. Default: a frame, but for several draws per cell.
        seed
            Of the draws.
        out
            Write to this path (.h5ad or .zarr) batch by batch instead of returning values: an AnnData with
            the values in ``X`` and ``obs`` of the cells.

        Returns
        -------
        Frame or array (cells x genes), float32; (samples x cells x genes) with several draws and
        ``return_mean=False``; the path with `out`. Counts at `library_size` for count likelihoods (zero
        inflation is not applied), the scale of the data for the others.

        Raises
        ------
        DataError
            Naming genes, batches or arguments that do not fit.
        """
        self._check_library(library_size)
        wanted, batches = self._wanted(gene_list), self._batches(transform_batch)
        names = self._names(adata)
        rows = rows_of(indices, len(names))
        if n_samples_overall is not None:
            if n_samples != 1 or n_samples_overall < 1:
                raise DataError("n_samples_overall must be at least 1, and n_samples then 1")
            rows = np.random.default_rng(seed).choice(rows, n_samples_overall)

        def decode(code: Code, batch: Batch) -> Tensor:
            values = self._expected(code.z, batch, batches, library_size)[..., wanted]
            if n_samples == 1:
                return values
            return values.mean(0) if return_mean else values.transpose(0, 1)

        if out is not None:
            if n_samples > 1 and not return_mean:
                raise DataError("several draws per cell do not fit a file; pass return_mean=True")
            stream = self._stream(decode, adata, rows, batch_size, seed, n_samples)
            about = {"library_size": library_size, "n_samples": n_samples, "seed": seed}
            return self._write(out, (found for _, _, found in stream), adata, rows, gene_list, about)
        values = self._map(decode, adata, rows, batch_size, seed, n_samples)
        if values.ndim == 3:
            values = values.transpose(1, 0, 2)
            if return_numpy is False:
                raise DataError("several draws per cell do not fit a frame; pass return_mean=True")
            return values
        if return_numpy:
            return values
        return pd.DataFrame(values, index=names[rows], columns=self._gene_names(gene_list))

    def get_denoised(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        *,
        genes: Sequence[str] | None = None,
        scale: Scale | None = None,
        which: Quantity = "mean",
        transform_batch: Any = None,
        sparse_below: float | None = None,
        out: str | os.PathLike | None = None,
        chunk_size: int | None = None,
    ) -> np.ndarray | sparse.csr_matrix | Path:
        """Expression of each cell with the noise of sampling taken away: the mean of the likelihood.

        A denoised value is what the model expects of cells like this one. Values of one cell are not
        independent evidence any more, and differences between genes of a cell are smoothed: draw with it,
        do not test with it.

        Parameters
        ----------
        adata, indices
            See :meth:`get_latent_representation`.
        genes
            Genes to return, in this order; None returns all of the model's.
        scale
            ``"counts"``: expected counts at the cell's own depth (the default for counts); ``"cp10k"``: per
            10,000 counts; ``"log1p"``: log(1 + cp10k). Must be None for models of continuous data, whose
            values are on the scale of the data.
        which
            ``"mean"``; ``"dispersion"``, the negative binomial's inverse dispersion theta; ``"dropout"``, the
            probability that a count is lost (``"zinb"`` only). The mean is that before the loss.
        transform_batch
            See :meth:`get_normalized_expression`.
        sparse_below
            Return a sparse matrix in which values below this one are 0.
        out
            Write to this path (.h5ad or .zarr) chunk by chunk instead of returning values: memory stays
            bounded by `chunk_size`. The file is an AnnData with the values in ``X`` and ``obs`` of the cells.
        chunk_size
            Cells decoded at once; no influence on the result.

        Returns
        -------
        Array (cells x genes), float32; a csr matrix with `sparse_below`; the path with `out`.

        Raises
        ------
        DataError
            If an argument does not fit the likelihood, or `out` exists.

        References
        ----------
        Eraslan et al., Nature Communications 2019, `doi:10.1038/s41467-018-07931-2
        <https://doi.org/10.1038/s41467-018-07931-2>`__.
        """
        read = self._denoiser(genes, scale, which, transform_batch)
        if out is None and sparse_below is None:
            return self._map(read, adata, indices, chunk_size)
        stream = self._stream(read, adata, indices, chunk_size)
        blocks = (_sparse(values, sparse_below) for _, _, values in stream)
        if out is None:
            parts = list(blocks)
            if not parts:
                raise DataError("no cells to look at: indices is empty")
            return sparse.vstack(parts, format="csr")
        about = {"which": which, "scale": scale or ("counts" if self._is_count else "data")}
        return self._write(out, blocks, adata, indices, genes, about)

    def get_likelihood_parameters(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        n_samples: int = 1,
        give_mean: bool = False,
        batch_size: int | None = None,
        *,
        seed: int = 0,
    ) -> dict[str, np.ndarray]:
        """Parameters of the likelihood for draws of each cell's code; names and meaning are scvi-tools'.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        n_samples
            Draws of the code per cell.
        give_mean
            Average over the draws.
        seed
            Of the draws.

        Returns
        -------
        Arrays (cells x genes), or (samples x cells x genes) with several draws and ``give_mean=False``:
        ``"mean"`` (expected counts at the cell's depth, before any loss; else the scale of the data);
        ``"dispersions"`` (theta, negative binomials); ``"dropout"`` (probability, ``"zinb"``); ``"scale"``
        (standard deviation or scale, ``"normal"`` and ``"student_t"``).
        """
        found: dict[str, np.ndarray] = {}
        for name, read in self._parameters().items():

            def decode(code: Code, batch: Batch, read=read) -> Tensor:
                raw = self.module.decode_raw(code.z, batch)
                values = read(raw, batch).expand_as(raw["mean"])
                if n_samples == 1:
                    return values
                return values.mean(0) if give_mean else values.transpose(0, 1)

            values = self._map(decode, adata, indices, batch_size, seed, n_samples)
            found[name] = values.transpose(1, 0, 2) if values.ndim == 3 else values
        return found

    def posterior_predictive_sample(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        transform_batch: Any = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        *,
        seed: int = 0,
    ) -> GCXS:
        """Cells drawn anew: a draw of the code, then of the data; names and meaning are scvi-tools'.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_latent_representation`.
        transform_batch
            See :meth:`get_normalized_expression`; one batch.
        n_samples
            Draws per cell.
        gene_list
            Genes to return, in this order; None returns all of the model's.
        seed
            Of the draws.

        Returns
        -------
        Sparse array (cells x genes), or (cells x genes x samples) with several draws: counts at each cell's
        depth, or values on the scale of the data, with the noise of :meth:`generate`. It is what
        ``scvi.criticism.PosteriorPredictiveCheck`` takes.
        """
        wanted, batches = self._wanted(gene_list), self._batches(transform_batch)
        if len(batches) > 1:
            raise DataError("transform_batch must be one batch here: draws of several cannot be averaged")

        noise = self._templates().noise

        def draw(code: Code, batch: Batch) -> Tensor:
            there = in_batch(batch, batches[0])
            raw = self.module.decode_raw(code.z, there)
            values = noise.draw(self.module.likelihood, raw, self.module.library(batch))[..., wanted]
            return values if n_samples == 1 else values.movedim(0, -1)

        stream = self._stream(draw, adata, indices, batch_size, seed, n_samples)
        parts = [COO.from_numpy(values) for _, _, values in stream]
        if not parts:
            raise DataError("no cells to look at: indices is empty")
        return GCXS.from_coo(concatenate(parts), compressed_axes=(0,))

    def _write(
        self,
        out: str | os.PathLike,
        blocks: Iterator[Any],
        adata: AnnData | None,
        indices: Indices,
        genes: Sequence[str] | None,
        about: dict[str, Any],
    ) -> Path:
        """Write expression that comes in blocks of cells as an AnnData, and what it is."""
        path = check_out(out)
        obs = self._obs(adata, indices)
        if not len(obs):
            raise DataError("no cells to look at: indices is empty")
        record = {
            "model": type(self).__name__,
            "gene_likelihood": self.gene_likelihood,
            **about,
            "latentcell": __version__,
        }
        var = pd.DataFrame(index=pd.Index(self._gene_names(genes)))
        return write_rows(path, blocks, len(obs), obs, var, {"latentcell": record})

    def _denoiser(
        self, genes: Sequence[str] | None, scale: Scale | None, which: Quantity, transform_batch: Any
    ) -> Callable[[Code, Batch], Tensor]:
        """What gives `which` of each cell, for :meth:`_map`."""
        wanted, batches = self._wanted(genes), self._batches(transform_batch)
        if which not in get_args(Quantity):
            raise DataError(
                f"which must be one of {get_args(Quantity)}, got {which!r}."
                f"{nearest(which, get_args(Quantity))}"
            )
        if which != "mean":
            name = {"dispersion": "dispersions", "dropout": "dropout"}[which]
            parameters = self._parameters()
            if name not in parameters:
                own = which == "dropout" and hasattr(self, "get_dropout_probability")
                hint = "; see get_dropout_probability()" if own else ""
                raise DataError(f"the likelihood {self.gene_likelihood!r} has no {which}{hint}")
            if scale is not None or len(batches) > 1:
                raise DataError(f"scale and several batches are for the mean; {which} has none")

            def parameter(code: Code, batch: Batch) -> Tensor:
                raw = self.module.decode_raw(self._point(code), in_batch(batch, batches[0]))
                return parameters[name](raw, batch).expand_as(raw["mean"])[:, wanted]

            return parameter
        if scale is not None and not self._is_count:
            raise DataError(
                f"scale={scale!r} is for counts; {self.gene_likelihood!r} gives the data's own: scale=None"
            )
        if scale not in (None, *get_args(Scale)):
            raise DataError(
                f"scale must be one of {get_args(Scale)}, got {scale!r}.{nearest(scale, get_args(Scale))}"
            )
        library_size: float | Literal["latent"] = "latent" if scale in (None, "counts") else CP10K

        def mean(code: Code, batch: Batch) -> Tensor:
            values = self._expected(self._point(code), batch, batches, library_size)[:, wanted]
            return values.log1p() if scale == "log1p" else values

        return mean

    def _names(self, adata: AnnData | None) -> pd.Index:
        return self._adata_or_own(adata).obs_names

    def _obs(self, adata: AnnData | None, indices: Indices) -> pd.DataFrame:
        obs = self._adata_or_own(adata).obs
        return own_columns(obs).iloc[rows_of(indices, len(obs))].copy()


def _sparse(values: np.ndarray, below: float | None) -> Any:
    return values if below is None else sparse.csr_matrix(np.where(values < below, 0.0, values).astype("f4"))

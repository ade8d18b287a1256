"""What every encoder-decoder model does: encode, reconstruct, measure, say what it is made of."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from latentcell._errors import DataError
from latentcell.module.autoencoder import Batch
from latentcell.nn.latents import Code
from latentcell.nn.mlp import MLPDecoder
from latentcell.train.loading import CellLoader
from latentcell.train.run import local_random_state

from ._assembly import AbstractAssembly
from ._base import INFERENCE_BATCH
from ._cells import Indices, rows_of
from ._sound import check_results


class AbstractEncoder(AbstractAssembly):
    """A model that encodes cells and decodes codes: latent representation, reconstruction and its error."""

    def get_reconstruction(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        *,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Decode the cells' codes: the expected data of each cell.

        Parameters
        ----------
        adata
            Cells with the model's genes and keys; None takes those the model was built with.
        indices
            Cells to take, in this order; None takes all.
        gene_list
            Genes to return, in this order; None returns all of the model's.
        batch_size
            Cells decoded at once; no influence on the result.

        Returns
        -------
        Array (cells x genes), float32, in the unit of the data the model was trained on: expected counts at
        the cell's own depth for ``"nb"``, 0 to 1 for ``"bernoulli"``, the scale of the matrix for
        ``"normal"``.

        Raises
        ------
        DataError, NotTrainedError
            See :meth:`get_latent_representation`.
        """
        wanted = slice(None) if gene_list is None else self._gene_positions(gene_list)

        def decode(code: Code, batch: Batch) -> Tensor:
            return self.module.decode(self._point(code), batch)[:, wanted]

        return self._map(decode, adata, indices, batch_size)

    def get_reconstruction_error(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
        *,
        return_mean: bool = True,
    ) -> float | np.ndarray:
        """Negative log-likelihood of cells given their code without noise; lower is better.

        Parameters
        ----------
        adata, indices, batch_size
            See :meth:`get_reconstruction`.
        return_mean
            Mean over cells; False gives one value per cell.

        Returns
        -------
        Nats per cell, summed over genes: a float, or an array (cells).
        """

        def error(code: Code, batch: Batch) -> Tensor:
            x, library, _ = self.module.read(batch)
            raw = self.module.decode_raw(self._point(code), batch)
            return self.module.likelihood.negative_log_likelihood(x, raw, library)

        values = self._map(error, adata, indices, batch_size)
        return float(values.mean(dtype=np.float64)) if return_mean else values

    def get_architecture(self) -> list[dict[str, Any]]:
        """Layers of the model from input to output, for :func:`latentcell.pl.architecture`.

        Returns
        -------
        A list of dicts with ``part`` (``"input"``, ``"encoder"``, ``"latent"``, ``"decoder"``, ``"output"``),
        ``name``, ``size`` (units), ``detail`` and ``branch`` (None, or the parameter of the code it leads
        to).
        """
        module, network = self.module, self._network

        def layer(part: str, name: str, size: int, detail: str = "", branch: str | None = None) -> dict:
            return {"part": part, "name": name, "size": size, "detail": detail, "branch": branch}

        n_genes = len(self.spec.genes)
        layers = [layer("input", "genes", n_genes, module.encoder_input.detail)]
        for i, size in enumerate(module.encoder.sizes):
            linear = network.first_linear and i == 0
            layers.append(layer("encoder", "linear", size, "" if linear else module.encoder.detail))
        names = {"code": "code", "mean": "mean", "scale": "standard deviation", "inclusion": "inclusion"}
        for size in network.head_sizes:
            layers += [layer("encoder", "linear", size, "ReLU", name) for name in module.latent.names]
        if len(module.latent.names) > 1:
            layers += [
                layer("latent", names[name], network.n_latent, branch=name) for name in module.latent.names
            ]
        layers.append(layer("latent", "code", network.n_latent, self._latent_detail()))
        if isinstance(module.decoder, MLPDecoder):
            body = module.decoder.body
            layers += [layer("decoder", "linear", size, body.detail) for size in body.sizes]
        elif module.decoder.non_negative:
            layers.append(layer("decoder", "linear", n_genes, "non-negative loadings"))
        layers.append(layer("output", "genes", n_genes, module.likelihood.detail))
        return layers

    @abstractmethod
    def _point(self, code: Code) -> Tensor:
        """The code without noise (cells x n_latent) that stands for a cell in reconstructions."""

    @abstractmethod
    def _latent_detail(self) -> str:
        """What the drawing of the model says at the code."""

    def _codes(
        self,
        read: Callable[[Code, Batch], Tensor],
        adata: AnnData | None,
        indices: Indices,
        batch_size: int | None,
    ) -> np.ndarray:
        """What `read` makes of codes without noise, in larger batches: nothing is cells x genes there."""
        if batch_size is None:
            batch_size = min(4096, max(INFERENCE_BATCH, 2**23 // len(self.spec.genes)))
        return self._map(read, adata, indices, batch_size)

    def _map(
        self,
        read: Callable[[Code, Batch], Tensor],
        adata: AnnData | None,
        indices: Indices,
        batch_size: int | None,
        seed: int = 0,
        n_samples: int = 1,
    ) -> np.ndarray:
        """Apply `read` to the codes of cells, batch by batch, into one array with a row per cell."""
        result: np.ndarray | None = None
        for done, n_rows, values in self._stream(read, adata, indices, batch_size, seed, n_samples):
            if result is None:
                result = np.empty((n_rows, *values.shape[1:]), dtype=values.dtype)
            result[done : done + len(values)] = values
        if result is None:
            raise DataError("no cells to look at: indices is empty")
        return result

    def _stream(
        self,
        read: Callable[[Code, Batch], Tensor],
        adata: AnnData | None,
        indices: Indices,
        batch_size: int | None,
        seed: int = 0,
        n_samples: int = 1,
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """What `read` makes of each batch, with the rows done before it and the number of all rows."""
        self._require_trained()
        batch_size = INFERENCE_BATCH if batch_size is None else batch_size
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        if n_samples < 1:
            raise DataError(f"n_samples must be at least 1, got {n_samples}")
        cells, names = self._cells(adata), self._adata_or_own(adata).obs_names
        rows = rows_of(indices, cells.n_obs)
        device = self.module.device
        done = 0
        for batch in CellLoader(cells, rows, batch_size, sparse_cells=True):
            on_device = {name: tensor.to(device) for name, tensor in batch.items()}
            # a seed per batch, so that between two of them the caller has its own random state
            batch_seed = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
            with local_random_state(batch_seed), torch.inference_mode():
                found = read(self.module.encode(on_device, n_samples), on_device).cpu()
            check_results(found, names[rows[done : done + len(found)]])
            values = found.numpy()
            yield done, len(rows), values
            done += len(values)

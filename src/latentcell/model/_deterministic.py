"""What a model adds whose code is a function of the cell, without noise: an autoencoder."""

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from latentcell.nn.latents import Code
from latentcell.train.loading import CellLoader

from ._base import INFERENCE_BATCH
from ._cells import Indices
from ._generative import AbstractGenerative


class AbstractDeterministic(AbstractGenerative):
    """A model whose code has no posterior; draws of the code are all the same."""

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Indices = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Code of each cell.

        Parameters
        ----------
        adata
            Cells with the model's genes (in any order, among others) and keys; None takes those the model was
            built with.
        indices
            Cells to take, in this order (positions or a boolean mask); None takes all.
        batch_size
            Cells encoded at once; no influence on the result.

        Returns
        -------
        Array (cells x n_latent), float32, rows in the order of `indices`.

        Raises
        ------
        NotTrainedError
            Before :meth:`train`.
        DataError
            Naming genes, keys, categories or values that do not fit.
        """
        return self._codes(lambda code, batch: code.mode, adata, indices, batch_size)

    def _latent_detail(self) -> str:
        return "" if self.module.latent.clusters is None else "clustered"

    def _point(self, code: Code) -> Tensor:
        return code.mode

    def _codes_so_far(self, rows: np.ndarray) -> Tensor:
        """Codes (cells x n_latent) of training cells `rows` by the weights as they are, also in training."""
        module, was_training = self.module, self.module.training
        module.eval()
        found = []
        with torch.no_grad():
            for batch in CellLoader(self._training_cells(), rows, INFERENCE_BATCH):
                there = {name: tensor.to(module.device) for name, tensor in batch.items()}
                found.append(module.encode(there).mode)
        module.train(was_training)
        return torch.cat(found)

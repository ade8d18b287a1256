"""What the encoder sees of a cell: counts on a log scale, genes standardised if asked."""

import numpy as np
import torch
from torch import Tensor, nn

from latentcell._sparse import SparseCells


class EncoderInput(nn.Module):
    """Bring cells to a scale on which a network learns; the likelihood still sees the data as they are.

    Parameters
    ----------
    n_genes
        Genes.
    log_normalize
        For counts: log(1 + 10,000 x / library), so that depth does not enter the code.
    normalize_depth
        False takes log(1 + x) of counts instead, as scvi-tools does.
    standardize
        Subtract the mean and divide by the standard deviation of each gene in the training data, clipped at
        `max_value`.
    max_value
        Largest absolute standardised value, as in ``sc.pp.scale(max_value=10)``.
    dropout
        Share of genes hidden from the encoder at each step of training; the code must then rest on many
        genes.
    """

    TARGET_SUM = 1e4
    center: Tensor
    width: Tensor

    def __init__(
        self,
        n_genes: int,
        *,
        log_normalize: bool = False,
        normalize_depth: bool = True,
        standardize: bool = False,
        max_value: float = 10.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"input dropout must lie in [0, 1), got {dropout}")
        self.n_out = n_genes
        self.log_normalize = log_normalize
        self.normalize_depth = normalize_depth
        self.standardize = standardize
        self.max_value = max_value
        self.dropout = nn.Dropout(dropout) if dropout > 0 else None
        if standardize:
            self.register_buffer("center", torch.zeros(n_genes))
            self.register_buffer("width", torch.ones(n_genes))

    @property
    def detail(self) -> str:
        """What the drawing of the model says."""
        words = ["log1p CP10k" if self.normalize_depth else "log1p"] if self.log_normalize else []
        if self.standardize:
            words.append("standardised")
        if self.dropout is not None:
            words.append(f"dropout {self.dropout.p:g}")
        return ", ".join(words)

    def start(self, mean: Tensor, std: Tensor) -> None:
        """Take the training data's mean and standard deviation per gene, before standardising."""
        if self.standardize:
            self.center.copy_(mean)
            self.width.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, x: Tensor | SparseCells, library: Tensor) -> Tensor | SparseCells:
        """Data (cells x genes) and total counts (cells x 1) to the encoder's input (cells x genes)."""
        if isinstance(x, SparseCells):
            if self.dropout is None or not self.training:
                return self._sparse(x, library)
            x = x.dense
        if self.log_normalize:
            x = self.logged(x, library)
        if self.standardize:
            x = ((x - self.center) / self.width).clamp(-self.max_value, self.max_value)
        return x if self.dropout is None else self.dropout(x)

    def logged(self, counts: Tensor, library: Tensor) -> Tensor:
        """Counts (cells x genes) of cells with total counts (cells x 1) on a log scale."""
        return torch.log1p(counts * self._factor(library))

    def _factor(self, library: Tensor) -> Tensor:
        return self.TARGET_SUM / library if self.normalize_depth else torch.ones_like(library)

    def _sparse(self, x: SparseCells, library: Tensor) -> SparseCells:
        values = x.data
        if self.log_normalize:
            values = x.log1p(self._factor(library))
        if not self.standardize:
            return x.with_data(values)
        zero = (-self.center / self.width).clamp(-self.max_value, self.max_value)
        gene, center, width = x.indices, self.center.numpy(), self.width.numpy()
        standard = np.clip((values - center[gene]) / width[gene], -self.max_value, self.max_value)
        return x.with_data(standard - zero.numpy()[gene], zero)

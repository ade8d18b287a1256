"""Mean and standard deviation of a matrix that comes in batches of rows."""

import torch
from torch import Tensor


class Moments:
    """Mean and standard deviation of columns, batch by batch, in double precision."""

    def __init__(self) -> None:
        self.n = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        x = x.double()
        self.n += x.shape[0]
        self.sum = self.sum + x.sum(0)
        self.square = self.square + x.square().sum(0)

    def result(self) -> tuple[Tensor, Tensor]:
        mean = torch.as_tensor(self.sum) / self.n
        variance = (torch.as_tensor(self.square) / self.n - mean.square()).clamp(min=0.0)
        return mean.float(), variance.sqrt().float()

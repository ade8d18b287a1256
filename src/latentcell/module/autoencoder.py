"""The one likelihood module: encoder x latent x decoder x likelihood x objective.

Every model with an encoder is this module with other parts. The equations meet in :meth:`Autoencoder.terms`.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import Parameter

from latentcell._sparse import SparseCells
from latentcell.nn.inputs import EncoderInput
from latentcell.nn.last_layer import LastLayer
from latentcell.nn.latents import Code, Deterministic, Latent
from latentcell.nn.likelihoods import CountLikelihood, Gaussian, Likelihood, Raw
from latentcell.nn.mlp import MLP, Decoder
from latentcell.nn.objectives import Objective
from latentcell.nn.penalties import Penalty
from latentcell.nn.schedules import Schedule, as_schedule

Batch = dict[str, Tensor]


class Covariates(nn.Module):
    """Sizes of what is known about a cell besides its expression, and their design matrix.

    Continuous covariates are standardised by mean and standard deviation of the cells a model is built on: in
    units of years or of counts their weights would move expression by orders of magnitude in one step.

    Parameters
    ----------
    n_batch
        Number of batches; 0 without a batch key.
    n_cats_per_cov
        Number of categories of each further categorical covariate.
    n_continuous_cov
        Number of continuous covariates.
    n_labels
        Number of labels, for a model conditional on them; the label of code `n_labels` is unknown, and its
        columns are all 0.
    """

    def __init__(
        self,
        n_batch: int = 0,
        n_cats_per_cov: Sequence[int] = (),
        n_continuous_cov: int = 0,
        n_labels: int = 0,
    ) -> None:
        super().__init__()
        self.n_batch = n_batch
        self.n_cats_per_cov = tuple(n_cats_per_cov)
        self.n_continuous_cov = n_continuous_cov
        self.n_labels = n_labels
        self.n_columns = n_batch + sum(self.n_cats_per_cov) + n_continuous_cov + n_labels
        if n_continuous_cov:
            self.register_buffer("center", torch.zeros(n_continuous_cov))
            self.register_buffer("scale", torch.ones(n_continuous_cov))

    center: Tensor
    scale: Tensor

    def start(self, values: Tensor) -> None:
        """Standardise continuous covariates by the mean and deviation of some cells (cells x covariates)."""
        std = values.double().std(0, correction=0).float()
        self.center.copy_(values.double().mean(0))
        self.scale.copy_(torch.where(std > 0, std, 1.0))

    def design(self, tensors: Batch) -> Tensor:
        """One-hot categories and continuous values (cells x n_columns)."""
        x = tensors[REGISTRY_KEYS.X_KEY]
        columns = [torch.empty((x.shape[0], 0), dtype=x.dtype, device=x.device)]
        if self.n_batch:
            columns.append(_one_hot(tensors[REGISTRY_KEYS.BATCH_KEY][:, 0], self.n_batch, x))
        for i, n in enumerate(self.n_cats_per_cov):
            columns.append(_one_hot(tensors[REGISTRY_KEYS.CAT_COVS_KEY][:, i], n, x))
        if self.n_continuous_cov:
            values = tensors[REGISTRY_KEYS.CONT_COVS_KEY].to(x.dtype)
            columns.append((values - self.center.to(x.dtype)) / self.scale.to(x.dtype))
        if self.n_labels:
            labels = tensors[REGISTRY_KEYS.LABELS_KEY][:, 0]
            columns.append(_one_hot(labels, self.n_labels + 1, x)[:, :-1])
        return torch.cat(columns, dim=1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # models saved before covariates were standardised took them as they are
        for name, values in self.named_buffers():
            state_dict.setdefault(prefix + name, torch.ones_like(values) * (name == "scale"))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Autoencoder(BaseModuleClass):
    """Encoder, latent, decoder, likelihood and objective as one trainable module.

    Parameters
    ----------
    encoder_input
        What the encoder sees of a cell.
    encoder
        Expression (and, if `encode_covariates`, covariates) to features.
    latent
        Features to a code.
    decoder
        Code and covariates to the likelihood's raw outputs.
    likelihood
        Raw outputs to a distribution of the data.
    objective
        Terms to a loss.
    covariates
        What else is known about cells.
    encode_covariates
        Show the covariates to the encoder as well as to the decoder; labels are shown to it in any case.
    label_dropout
        Share of cells whose label is hidden at each step of training, so that cells of unknown label can be
        encoded and decoded.
    temperature
        Schedule of a gate's: the sparse coder's, or a likelihood's that draws in training.
    output_lr_factor
        Factor on the learning rate of the decoder, and at least that on the likelihood's.
    penalties
        Terms of the loss beside the objective, of the codes of a batch.

    Attributes
    ----------
    free
        None, or, of a frozen module, the parts of parameters that may still move: by name, the dimension and
        where in it they start and stop (see :meth:`freeze`).
    half_products
        Whether training takes the decoder's last products in bfloat16, where that is possible.
    """

    free: dict[str, tuple[int, int, int]] | None = None
    half_products: bool = False

    def __init__(
        self,
        *,
        encoder_input: EncoderInput,
        encoder: MLP,
        latent: Latent,
        decoder: Decoder,
        likelihood: Likelihood,
        objective: Objective,
        covariates: Covariates,
        encode_covariates: bool = False,
        label_dropout: float = 0.0,
        temperature: Schedule | None = None,
        output_lr_factor: float = 1.0,
        penalties: Sequence[Penalty] = (),
    ) -> None:
        super().__init__()
        self.encoder_input = encoder_input
        self.encoder = encoder
        self.latent = latent
        self.decoder = decoder
        self.likelihood = likelihood
        self.objective = objective
        self.covariates = covariates
        self.encode_covariates = encode_covariates
        self.label_dropout = label_dropout
        self.temperature = temperature
        self.output_lr_factor = output_lr_factor
        self.penalties = tuple(penalties)

    def terms(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (a scalar) of a batch and its per-cell terms (cells) in nats, at `progress` of training."""
        x = batch[REGISTRY_KEYS.X_KEY]
        precision = next(self.parameters()).dtype
        if isinstance(x, SparseCells) and (precision != x.dtype or torch.is_autocast_enabled("cpu")):
            x = x.dense.to(precision)  # the sparse products are in single precision only
            batch = batch | {REGISTRY_KEYS.X_KEY: x}
        if self.training and self.covariates.n_labels and self.label_dropout:
            batch = self._hide_labels(batch)
        library, covariates = self.library(batch), self.covariates.design(batch)
        code = self._encode(x, library, covariates, progress=progress)
        likelihood = self.likelihood
        if (
            isinstance(x, SparseCells)
            and isinstance(likelihood, Gaussian | CountLikelihood)
            and likelihood.sparse_when != "never"
        ):
            h, maps = self.decoder.last(code.z, covariates)
            half = self.training and self.half_products
            last = LastLayer(h, maps, library, self._group(batch), half)
            reconstruction = likelihood.sparse_negative_log_likelihood(x, last)
        else:
            raw = self.decode_raw(code.z, batch)
            if self.training and self.temperature is not None:
                temperature = torch.full((), self.temperature(progress), device=library.device)
                raw = raw | {"temperature": temperature}
            dense = x.dense if isinstance(x, SparseCells) else x
            reconstruction = likelihood.negative_log_likelihood(dense, raw, library)
        loss = self.objective(reconstruction, code.kl, progress)
        terms = {"reconstruction_loss": reconstruction, **code.kl}
        if self.covariates.n_batch:
            code.batches = batch[REGISTRY_KEYS.BATCH_KEY][:, 0]
        for penalty in self.penalties:
            value = penalty(code)
            loss = loss + as_schedule(penalty.weight)(progress) * value
            terms[penalty.name] = value.expand(reconstruction.shape)
        return loss, terms

    def schedule_values(self, progress: float) -> dict[str, float]:
        """Weights and capacities of the loss and the gate's temperature at `progress` of training."""
        values = self.objective.schedule_values(list(self.latent.kl_terms), progress)
        for penalty in self.penalties:
            values[f"{penalty.name}_weight"] = as_schedule(penalty.weight)(progress)
        if self.temperature is not None:
            values["temperature"] = self.temperature(progress)
        return values

    def parameter_groups(self) -> list[tuple[list[Parameter], float, bool]]:
        """By group: parameters, the factor on the learning rate, whether weight matrices decay."""
        clusters = self._clusters()
        where = [] if clusters is None else list(clusters.parameters())
        inner = [*self.encoder.parameters(), *self.latent.parameters()]
        factor = max(self.output_lr_factor, self.likelihood.lr_factor)
        groups = [
            ([p for p in inner if all(p is not other for other in where)], 1.0, True),
            (list(self.decoder.parameters()), self.output_lr_factor, True),
            (list(self.likelihood.parameters()), factor, False),
        ]
        # decay would pull clusters to the origin
        return [*groups, (where, 1.0, False)] if where else groups

    @property
    def uses_labels(self) -> bool:
        """Whether a cell's label has any influence."""
        by_label = getattr(self.likelihood, "dispersion", None) == "gene-label"
        return by_label or self.covariates.n_labels > 0

    def encoder_columns(self, covariates: Tensor) -> Tensor | None:
        """The columns of covariates that the encoder is shown (cells x columns), or None."""
        if self.encode_covariates:
            return covariates
        n_labels = self.covariates.n_labels
        return covariates[..., -n_labels:] if n_labels else None

    def freeze(self, free: dict[str, tuple[int, int, int]]) -> None:
        """Freeze all but parts of some parameters; batch norm and dropout then work as at inference.

        Parameters
        ----------
        free
            By a parameter's name: dimension, start and stop of the part that may move. Parameters without a
            part take no gradient at all; the rest of those with one is for the training loop to keep.
        """
        self.free = free
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in free)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; of a frozen module only the latent, which then draws codes with a gradient."""
        super().train(mode and self.free is None)
        self.latent.train(mode)
        if self.free is not None and (clusters := self._clusters()) is not None:
            clusters.eval()
        return self

    def _clusters(self) -> nn.Module | None:
        return self.latent.clusters if isinstance(self.latent, Deterministic) else None

    def encode(self, batch: Batch, n_samples: int = 1) -> Code:
        """Code of a batch, with the gate as at the end of training."""
        x, covariates = batch[REGISTRY_KEYS.X_KEY], self.covariates.design(batch)
        if isinstance(x, SparseCells) and next(self.parameters()).dtype != x.dtype:
            x = x.dense
        return self._encode(x, self.library(batch), covariates, progress=1.0, n_samples=n_samples)

    def decode(self, z: Tensor, batch: Batch) -> Tensor:
        """Expected data (cells x genes) of codes z (cells x n_latent), with library and covariates."""
        return self.likelihood.mean(self.decode_raw(z, batch), self.library(batch))

    def decode_raw(self, z: Tensor, batch: Batch, *, values_only: bool = False) -> Raw:
        """What the likelihood reads: decoder outputs (... x cells x genes) of codes z, and cells' groups.

        `values_only`: no derivative of any kind will be asked for.
        """
        return self._raw(z, self.covariates.design(batch), self._group(batch), values_only=values_only)

    # scvi-tools' interface: the same steps under its names, so that its tools work on our models

    def _get_inference_input(self, tensors: Batch, **kwargs) -> dict[str, Tensor]:
        x, library, covariates = self.read(tensors)
        return {"x": x, "library": library, "covariates": covariates}

    def inference(self, x: Tensor, library: Tensor, covariates: Tensor, n_samples: int = 1) -> dict:
        """Encode: ``z`` (a draw), ``qz`` (its posterior), ``library`` and ``code``."""
        code = self._encode(x, library, covariates, progress=1.0, n_samples=n_samples)
        return {"z": code.z, "qz": code.qz, "library": library, "code": code}

    def _get_generative_input(self, tensors: Batch, inference_outputs: dict, **kwargs) -> dict:
        return {
            "z": inference_outputs["z"],
            "library": inference_outputs["library"],
            "covariates": self.covariates.design(tensors),
            "group": self._group(tensors),
        }

    def generative(self, z: Tensor, library: Tensor, covariates: Tensor, group: Tensor | None = None) -> dict:
        """Decode: ``px``, the distribution of the data, and ``raw``, the decoder's output."""
        raw = self._raw(z, covariates, group)
        return {"px": self.likelihood.distribution(raw, library), "raw": raw}

    def loss(self, tensors: Batch, inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Negative ELBO of a batch: every KL weight 1, the KL exact per cell (one draw of the code)."""
        x = tensors[REGISTRY_KEYS.X_KEY]
        reconstruction = self.likelihood.negative_log_likelihood(
            x, generative_outputs["raw"], inference_outputs["library"]
        )
        kl = self.kl(inference_outputs["code"])
        return LossOutput(loss=(reconstruction + kl).mean(), reconstruction_loss=reconstruction, kl_local=kl)

    def kl(self, code: Code) -> Tensor:
        """KL divergence of each cell's posterior to the prior (cells), nats; 0 for a deterministic code."""
        if code.qz is None or isinstance(self.latent, Deterministic):
            return code.mean.new_zeros(code.mean.shape[0])
        return kl_divergence(code.qz, self.latent.prior.distribution()).sum(-1)

    @torch.inference_mode()
    def sample(self, tensors: Batch, n_samples: int = 1) -> Tensor:
        """Posterior predictive draws (cells x genes, or samples x cells x genes) of a batch."""
        outputs = self.inference(**self._get_inference_input(tensors), n_samples=n_samples)
        generative = self.generative(**self._get_generative_input(tensors, outputs))
        return generative["px"].sample()

    def read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Data (cells x genes), library (cells x 1) and covariates (cells x columns) of a batch."""
        x = batch[REGISTRY_KEYS.X_KEY]
        dense = x.dense if isinstance(x, SparseCells) else x
        return dense, self.library(batch), self.covariates.design(batch)

    def library(self, batch: Batch) -> Tensor:
        """Size factor of each cell (cells x 1): its key's, else its total count; 1 where counts are not."""
        x = batch[REGISTRY_KEYS.X_KEY]
        if REGISTRY_KEYS.SIZE_FACTOR_KEY in batch:
            return batch[REGISTRY_KEYS.SIZE_FACTOR_KEY].to(x.dtype)
        if isinstance(self.likelihood, CountLikelihood):
            return x.totals() if isinstance(x, SparseCells) else x.sum(1, keepdim=True)
        return torch.ones((x.shape[0], 1), dtype=x.dtype, device=x.device)

    def _raw(self, z: Tensor, covariates: Tensor, group: Tensor | None, *, values_only: bool = False) -> Raw:
        if z.dim() == 3:
            covariates = covariates.expand(z.shape[0], *covariates.shape)
        raw = self.decoder(z, covariates, values_only=values_only)
        return raw if group is None else raw | {"group": group}

    def _hide_labels(self, batch: Batch) -> Batch:
        labels = batch[REGISTRY_KEYS.LABELS_KEY]
        hidden = torch.rand(labels.shape, device=labels.device) < self.label_dropout
        return batch | {REGISTRY_KEYS.LABELS_KEY: labels.masked_fill(hidden, self.covariates.n_labels)}

    def _group(self, batch: Batch) -> Tensor | None:
        """The batch or label (cells, integers) that decides a cell's dispersion, if one does."""
        by = getattr(self.likelihood, "dispersion", None)
        keys = {"gene-batch": REGISTRY_KEYS.BATCH_KEY, "gene-label": REGISTRY_KEYS.LABELS_KEY}
        return batch[keys[by]][:, 0].long() if by in keys else None

    def _encode(
        self,
        x: Tensor | SparseCells,
        library: Tensor,
        covariates: Tensor,
        *,
        progress: float,
        n_samples: int = 1,
    ) -> Code:
        if isinstance(x, Tensor):
            x = x.to(next(self.parameters()).dtype)  # data are in single precision, weights may not be
        seen = self.encoder_input(x, library)
        features = self.encoder(seen, self.encoder_columns(covariates))
        temperature = 0.0 if self.temperature is None else self.temperature(progress)
        code = self.latent(features, temperature=temperature, n_samples=n_samples)
        code.seen = seen
        return code


def _one_hot(codes: Tensor, n: int, like: Tensor) -> Tensor:
    # torch's one_hot reads the largest code back to the host
    return (codes.unsqueeze(1) == torch.arange(n, device=codes.device)).to(like.dtype)

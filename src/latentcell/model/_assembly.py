"""How the parts of an encoder-decoder model are chosen and put together, and where they start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Autoencoder, Covariates
from latentcell.nn.counts import Dispersion, Link, NegativeBinomial
from latentcell.nn.inputs import EncoderInput
from latentcell.nn.latents import Latent
from latentcell.nn.likelihoods import LIKELIHOODS, CountLikelihood, Gaussian, Likelihood
from latentcell.nn.mlp import MLP, LinearDecoder, MLPDecoder, Norm
from latentcell.nn.objectives import Objective
from latentcell.nn.penalties import Penalty
from latentcell.nn.schedules import Schedule
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.run import local_random_state

from ._arguments import refusing
from ._base import INFERENCE_BATCH
from ._cells import kind_of
from ._likelihood import AbstractLikelihoodModel
from ._moments import Moments
from ._sound import check_units

GeneLikelihood = Literal["auto", "normal", "student_t", "bernoulli", "poisson", "nb", "zinb"]
LABEL_DROPOUT = 0.1
"""Share of labels hidden in training where unknown ones are allowed: enough to learn that case."""
_LIKELIHOOD_OF_KIND: dict[str, GeneLikelihood] = {
    "counts": "nb",
    "unit": "bernoulli",
    "non-negative": "normal",
    "real": "normal",
}


@dataclass(frozen=True)
class Network:
    """Sizes and choices that every encoder-decoder model shares; each is an argument of the model."""

    n_latent: int
    hidden: Sequence[int]
    activation: str
    norm: Norm
    dropout: float
    encode_covariates: bool
    gene_likelihood: GeneLikelihood = "auto"
    gene_scale: Literal["gene"] | float = 1.0
    dispersion: Dispersion = "gene"
    standardize_input: bool = False
    input_dropout: float = 0.0
    first_linear: bool = False
    head_sizes: Sequence[int] = ()
    conditional: bool = False
    normalize_depth: bool = True
    decoder_dropout: float | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any], **fixed: Any) -> "Network":
        """Those of a model's arguments by name, and what the model does not leave to its user."""
        own = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in params.items() if name in own}, **fixed)


class AbstractAssembly(AbstractLikelihoodModel):
    """A model of encoder, latent, decoder and likelihood."""

    def _assemble(
        self,
        network: Network,
        *,
        latent: Callable[[int], Latent],
        objective: Objective,
        linear_decoder: bool = False,
        non_negative: bool = False,
        temperature: Schedule | None = None,
        output_lr_factor: float = 1.0,
        log_linear: bool = False,
        penalties: Sequence[Penalty] = (),
    ) -> None:
        """Put the parts together as :attr:`module`; with cells, start biases, scales and inputs at them.

        Parameters
        ----------
        network
            Sizes and choices.
        latent
            Makes the latent from the number of encoder features.
        objective
            The loss.
        linear_decoder, non_negative
            Decode by one linear map, with positive loadings if asked.
        temperature
            Of the gate.
        output_lr_factor
            Factor on the learning rate of the decoder, and at least that on the likelihood's.
        log_linear
            For counts: let raw outputs be logs of single genes' shares instead of a softmax's.
        penalties
            Terms of the loss beside the objective.
        """
        n_genes = len(self.spec.genes)
        check_units("n_latent and hidden", [network.n_latent, *network.hidden])
        check_units("head_sizes", network.head_sizes)
        self._network = network
        covariates = Covariates(
            n_batch=len(self.spec.batch or ()),
            n_cats_per_cov=[len(values) for values in self.spec.categorical.values()],
            n_continuous_cov=len(self.spec.continuous),
            n_labels=self._n_labels() if network.conditional else 0,
        )
        told = covariates.n_columns if network.encode_covariates else covariates.n_labels
        with local_random_state(self.params["seed"]), refusing():
            likelihood = self._likelihood(network, "log" if log_linear else "softmax")
            if isinstance(likelihood, CountLikelihood):
                self.train_defaults |= self.COUNT_TRAIN_DEFAULTS
            encoder_input = self._encoder_input(network, likelihood)
            encoder = MLP(
                encoder_input.n_out + told,
                network.hidden,
                activation=network.activation,
                norm=network.norm,
                dropout=network.dropout,
                first_linear=network.first_linear,
            )
            sizes = (network.n_latent, covariates.n_columns, n_genes, likelihood.outputs)
            decoder: LinearDecoder | MLPDecoder
            if linear_decoder:
                decoder = LinearDecoder(*sizes, non_negative=non_negative)
            else:
                decoder = MLPDecoder(
                    *sizes,
                    sizes=(*network.head_sizes[::-1], *network.hidden[::-1]),
                    activation=network.activation,
                    norm=network.norm,
                    dropout=network.dropout if network.decoder_dropout is None else network.decoder_dropout,
                )
            self.module = Autoencoder(
                encoder_input=encoder_input,
                encoder=encoder,
                latent=latent(encoder.n_out),
                decoder=decoder,
                likelihood=likelihood,
                objective=objective,
                covariates=covariates,
                encode_covariates=network.encode_covariates,
                label_dropout=0.0 if self.spec.unlabeled_category is None else LABEL_DROPOUT,
                temperature=temperature,
                output_lr_factor=output_lr_factor,
                penalties=penalties,
            )
        if self.adata is not None:
            self._start_at_data(self._collect(self.adata, check=True))
        self.module.eval()
        self._model_summary_string = (
            f"{type(self).__name__} with {network.n_latent} latent dimensions, hidden layers "
            f"{tuple(network.hidden)}, gene likelihood {self.gene_likelihood!r}, {n_genes} genes"
        )

    def _kind_of_data(self, argument: str) -> str:
        """What kind of numbers the cells hold, which `argument` is decided by."""
        if self.adata is None:
            raise DataError(f"{argument}='auto' needs cells to look at")
        return kind_of(self.adata, self.spec.layer)

    def _encoder_input(self, network: Network, likelihood: Likelihood) -> EncoderInput:
        """What the encoder sees of a cell."""
        return EncoderInput(
            len(self.spec.genes),
            log_normalize=isinstance(likelihood, CountLikelihood),
            normalize_depth=network.normalize_depth,
            standardize=network.standardize_input,
            dropout=network.input_dropout,
        )

    def _likelihood(self, network: Network, link: Link) -> Likelihood:
        """The likelihood that was asked for or fits the cells, with its scale or dispersion as asked."""
        name = network.gene_likelihood
        if name == "auto":
            name = _LIKELIHOOD_OF_KIND[self._kind_of_data("gene_likelihood")]
            self.params = self.params | {"gene_likelihood": name}
        if name not in LIKELIHOODS:
            raise DataError(
                f"gene_likelihood must be 'auto' or one of {sorted(LIKELIHOODS)}, got {name!r}."
                f"{nearest(name, LIKELIHOODS)}"
            )
        kind, n_genes, by = LIKELIHOODS[name], len(self.spec.genes), network.dispersion
        if by not in get_args(Dispersion):
            raise DataError(
                f"dispersion must be one of {get_args(Dispersion)}, got {by!r}."
                f"{nearest(by, get_args(Dispersion))}"
            )
        if issubclass(kind, NegativeBinomial):
            n_groups = 0
            if by == "gene-batch":
                if self.spec.batch is None:
                    raise DataError("dispersion='gene-batch' needs setup_anndata(batch_key=...)")
                n_groups = len(self.spec.batch)
            elif by == "gene-label":
                if self.spec.labels is None:
                    raise DataError("dispersion='gene-label' needs setup_anndata(labels_key=...)")
                n_groups = len(self.spec.labels) + (self.spec.unlabeled_category is not None)
            return kind(n_genes, link=link, dispersion=by, n_groups=n_groups)
        if by != "gene":
            raise DataError(f"dispersion={by!r} is for 'nb' and 'zinb'; the likelihood is {name!r}")
        if issubclass(kind, CountLikelihood):
            return kind(n_genes, link=link)
        return Gaussian(n_genes, scale=network.gene_scale) if kind is Gaussian else kind(n_genes)

    def _n_labels(self) -> int:
        if not self.spec.labels:
            raise DataError(
                f"a conditional {type(self).__name__} needs labels: "
                f"{type(self).__name__}.setup_anndata(adata, labels_key=...)"
            )
        return len(self.spec.labels)

    @property
    def _n_latent(self) -> int:
        return self._network.n_latent

    def _modelled(self, x: Tensor, library: Tensor) -> Tensor:
        """What the likelihood is of (cells x genes), from the data: they themselves."""
        return x

    def _start_at_data(self, cells: Cells) -> None:
        """Start biases, scales, covariates and encoder input at the means and deviations of the data."""
        likelihood, encoder_input = self.module.likelihood, self.module.encoder_input
        if REGISTRY_KEYS.CONT_COVS_KEY in cells.arrays:
            self.module.covariates.start(torch.from_numpy(cells.arrays[REGISTRY_KEYS.CONT_COVS_KEY]))
        moments = {"data": Moments(), "input": Moments()}
        for batch in CellLoader(cells, np.arange(cells.n_obs), INFERENCE_BATCH):
            x, size, _ = self.module.read(batch)
            moments["data"].add(self._modelled(x, size))
            if encoder_input.standardize:
                moments["input"].add(encoder_input.logged(x, size) if encoder_input.log_normalize else x)
        mean, std = moments["data"].result()
        bias = likelihood.start(mean, std)
        if isinstance(self.module.decoder, LinearDecoder) and self.module.decoder.non_negative:
            bias = likelihood.baseline(bias)
        self.module.decoder.set_bias("mean", bias)
        if encoder_input.standardize:
            encoder_input.start(*moments["input"].result())

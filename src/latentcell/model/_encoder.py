"""What every encoder-decoder model does: put the parts together, encode, reconstruct, measure."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from torch import Tensor

from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Autoencoder, Batch, Covariates
from latentcell.nn.counts import Dispersion, Link, NegativeBinomial
from latentcell.nn.inputs import EncoderInput
from latentcell.nn.latents import Code, Latent
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
from ._sound import check_results, check_units

Indices = Sequence[int] | np.ndarray | None
"""Cells by position, or a boolean mask; None is all of them."""
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


class AbstractEncoder(AbstractLikelihoodModel):
    """A model that encodes cells and decodes codes: latent representation, reconstruction and its error."""

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


def rows_of(indices: Indices, n_obs: int) -> np.ndarray:
    """Positions of the cells that `indices` names: positions (also negative), a mask, or None for all."""
    if indices is None:
        return np.arange(n_obs)
    rows = np.asarray(indices)
    if rows.dtype == bool:
        if rows.shape != (n_obs,):
            raise DataError(f"a boolean indices needs one entry per cell ({n_obs}), got {rows.shape}")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
        raise DataError("indices must be a list of cell positions (integers) or a boolean mask")
    if rows.size and (rows.min() < -n_obs or rows.max() >= n_obs):
        furthest = rows.max() if rows.max() >= n_obs else rows.min()
        raise DataError(f"indices reach {furthest}, but there are only {n_obs} cells")
    return np.where(rows < 0, rows + n_obs, rows).astype(np.int64)

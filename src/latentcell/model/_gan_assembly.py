"""What GANs are made of: two networks put together from arguments, started at the data, drawn as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from latentcell._errors import DataError, nearest
from latentcell.module.autoencoder import Covariates
from latentcell.module.gan import GAN as Module
from latentcell.module.gan import Outputs, Values
from latentcell.nn.counts import NegativeBinomial, Poisson
from latentcell.train.loading import CellLoader, Cells
from latentcell.train.run import local_random_state

from ._arguments import own_params, refusing
from ._base import INFERENCE_BATCH
from ._cells import kind_of
from ._generative import AbstractGenerator
from ._moments import Moments
from ._sound import check_units

GANLikelihood = Literal["auto", "nb", "poisson", "relu", "identity"]


class AbstractGANAssembly(AbstractGenerator):
    """A model of a generator and a critic."""

    module: Module
    CONDITIONAL: ClassVar[bool]
    """Whether labels steer what is drawn."""

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        registry: dict | None = None,
        n_latent: int = 32,
        hidden: Sequence[int] = (128, 256),
        critic_hidden: Sequence[int] = (256, 128),
        gene_likelihood: GANLikelihood = "auto",
        penalty_weight: float = 10.0,
        decay: float = 0.999,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, own_params(locals()))
        conditional = self.CONDITIONAL
        check_units("n_latent, hidden and critic_hidden", [n_latent, *hidden, *critic_hidden])
        if not penalty_weight > 0:
            raise DataError(f"penalty_weight must be above 0, got {penalty_weight}")
        if not 0 <= decay < 1:
            raise DataError(f"decay must lie in [0, 1), got {decay}")
        if conditional and not self.spec.labels:
            name = type(self).__name__
            raise DataError(f"a {name} needs labels: {name}.setup_anndata(adata, labels_key=...)")
        if conditional and self.spec.unlabeled_category is not None:
            raise DataError(
                f"a {type(self).__name__} needs the label of every cell; leave out unlabeled_category and "
                "the cells without a label"
            )
        gene_likelihood = self._chosen(gene_likelihood)
        covariates = Covariates(
            n_batch=len(self.spec.batch or ()),
            n_cats_per_cov=[len(values) for values in self.spec.categorical.values()],
            n_continuous_cov=len(self.spec.continuous),
            n_labels=len(self.spec.labels or ()) if conditional else 0,
        )
        n_genes = len(self.spec.genes)
        with local_random_state(self.params["seed"]), refusing():
            self.module = Module(
                n_genes=n_genes,
                n_latent=n_latent,
                generator_sizes=hidden,
                critic_sizes=critic_hidden,
                inverse_sizes=critic_hidden,
                likelihood=_outputs(gene_likelihood, n_genes),
                covariates=covariates,
                penalty_weight=penalty_weight,
                decay=decay,
            )
        if self.adata is not None:
            self._start_at_data(self._collect(self.adata, check=True))
        self.module.eval()
        self._model_summary_string = (
            f"{type(self).__name__} with {n_latent} latent dimensions, generator {tuple(hidden)}, critic "
            f"{tuple(critic_hidden)}, output {gene_likelihood!r}, {n_genes} genes"
        )

    def get_architecture(self) -> list[dict[str, Any]]:
        """Layers of generator and critic, for :func:`latentcell.pl.architecture`.

        Returns
        -------
        See :meth:`VAE.get_architecture`. There is no encoder; the critic comes after the cells.
        """
        module = self.module

        def layer(part: str, name: str, size: int, detail: str = "") -> dict:
            return {"part": part, "name": name, "size": size, "detail": detail, "branch": None}

        norm = "batch norm of the label, ReLU" if module.uses_labels else "batch norm, ReLU"
        likelihood = module.generator.likelihood
        return [
            layer("latent", "noise", module.latent.n_latent, "normal"),
            *(layer("generator", "linear", size, norm) for size in module.generator.body.sizes),
            layer("output", "genes", len(self.spec.genes), likelihood.detail),
            *(layer("critic", "linear", size, "leaky ReLU") for size in module.critic.sizes),
            layer("critic", "score", 1, "projection on the label" if module.uses_labels else ""),
        ]

    @classmethod
    def _chains(cls, params: Mapping[str, Any], n_genes: int, n_labels: int) -> list[tuple[Any, ...]]:
        sizes = [(params["n_latent"], *params["hidden"], n_genes), (n_genes, *params["critic_hidden"], 1)]
        return sizes + [(n_labels, size) for size in params["hidden"]] * (n_labels > 0)

    @property
    def _n_latent(self) -> int:
        return self.module.latent.n_latent

    def _chosen(self, name: GANLikelihood) -> GANLikelihood:
        """The output called `name`; ``"auto"`` by what the cells are."""
        if name == "auto":
            if self.adata is None:
                raise DataError("gene_likelihood='auto' needs cells to look at")
            kind = kind_of(self.adata, self.spec.layer)
            name = {"counts": "poisson", "unit": "relu", "non-negative": "relu", "real": "identity"}[kind]  # type: ignore[assignment]
            self.params = self.params | {"gene_likelihood": name}
        if name not in ("nb", "poisson", "relu", "identity"):
            raise DataError(
                f"gene_likelihood must be 'auto', 'nb', 'poisson', 'relu' or 'identity', got {name!r}."
                f"{nearest(name, ('nb', 'poisson', 'relu', 'identity'))}"
            )
        return name

    def _start_at_data(self, cells: Cells) -> None:
        """Start the generator at the mean cell, and measure depth, unit and covariates."""
        module, moments, sizes = self.module, Moments(), []
        if REGISTRY_KEYS.CONT_COVS_KEY in cells.arrays:
            module.covariates.start(torch.from_numpy(cells.arrays[REGISTRY_KEYS.CONT_COVS_KEY]))
        for batch in CellLoader(cells, np.arange(cells.n_obs), INFERENCE_BATCH):
            moments.add(batch[REGISTRY_KEYS.X_KEY])
            sizes.append(module.library(batch))
        mean, std = moments.result()
        library = torch.cat(sizes)
        with torch.no_grad():
            for network in (module.generator, module.averaged):
                network.head.bias.copy_(network.likelihood.start(mean, std))
            likelihood = module.likelihood
            if isinstance(likelihood, Values):
                module.unit.copy_(likelihood.unit)
            else:
                module.unit.copy_(library.median())
                logs = library.log()
                spread = logs.std(correction=0)
                module.depth.copy_(
                    torch.stack([logs.mean(), spread if spread > 1e-6 else spread.new_ones(())])
                )


def _outputs(name: str, n_genes: int) -> Outputs:
    if name == "nb":
        return NegativeBinomial(n_genes)
    return Poisson(n_genes) if name == "poisson" else Values(n_genes, link=name)  # type: ignore[arg-type]

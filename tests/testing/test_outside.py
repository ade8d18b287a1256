"""A model class of an outside author, from public names only: it keeps the whole contract."""

from collections.abc import Sequence

import latentcell as lc
from latentcell.model.abstract import AbstractVariational, Network, own_params
from latentcell.nn.latents import Gaussian
from latentcell.nn.objectives import BetaELBO


class LDVAE(AbstractVariational):
    """Linearly decoded VAE: a gene's log expression is a weighted sum of the code.

    Svensson et al., Bioinformatics 2020, doi:10.1093/bioinformatics/btaa169.
    """

    def __init__(
        self,
        adata=None,
        *,
        registry=None,
        n_latent: int = 10,
        hidden: Sequence[int] = (128,),
        gene_likelihood="auto",
        seed: int = 0,
    ):
        super().__init__(adata, registry, own_params(locals()))
        self._assemble(
            Network(
                n_latent=n_latent,
                hidden=hidden,
                activation="relu",
                norm="batch",
                dropout=0.1,
                gene_likelihood=gene_likelihood,
                gene_scale=1.0,
                dispersion="gene",
                standardize_input=True,
                encode_covariates=False,
            ),
            latent=lambda n_features: Gaussian(n_features, n_latent),
            objective=BetaELBO({"kl": 1.0}),
            linear_decoder=True,
        )

    def _latent_detail(self) -> str:
        return "normal"


def test_it_keeps_the_contract():
    lines = []
    arguments = {"n_latent": 3, "hidden": (8,)}
    table = lc.testing.check_model(LDVAE, arguments=arguments, progress=lines.append)
    assert list(table["check"]) == [check.__name__ for check in lc.testing.CHECKS]
    assert set(table["outcome"]) == {"passed"}
    assert lines == [f"{check.__name__}: passed" for check in lc.testing.CHECKS]

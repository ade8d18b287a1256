"""Models, in scvi-tools' manner: ``setup_anndata``, construct, ``train``, ask."""

from . import abstract as abstract
from ._files import load
from ._jacobian import LatentJacobian
from .ae import AE
from .baselines import GaussianCopula, GeneShuffle, PCAGaussian
from .cvae import CVAE
from .dca import DCA
from .desc import DESC
from .disentangled import DisentangledVAE
from .gan import GAN, ConditionalGAN
from .saucie import SAUCIE
from .scgen import ScGen
from .vae import VAE
from .vsc import VSC

__all__ = [
    "AE",
    "CVAE",
    "DCA",
    "DESC",
    "GAN",
    "SAUCIE",
    "VAE",
    "VSC",
    "ConditionalGAN",
    "DisentangledVAE",
    "GaussianCopula",
    "GeneShuffle",
    "LatentJacobian",
    "PCAGaussian",
    "ScGen",
    "load",
]

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
from .scvis import SCVIS
from .vae import VAE
from .vasc import VASC
from .vsc import VSC

__all__ = [
    "AE",
    "CVAE",
    "DCA",
    "DESC",
    "GAN",
    "SAUCIE",
    "SCVIS",
    "VAE",
    "VASC",
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

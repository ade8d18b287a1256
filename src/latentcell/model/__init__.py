"""Models, in scvi-tools' manner: ``setup_anndata``, construct, ``train``, ask."""

from ._files import load
from ._jacobian import LatentJacobian
from .ae import AE
from .baselines import GaussianCopula, GeneShuffle, PCAGaussian
from .cvae import CVAE
from .dca import DCA
from .disentangled import DisentangledVAE
from .gan import GAN, ConditionalGAN
from .scvis import SCVIS
from .vae import VAE
from .vasc import VASC
from .vsc import VSC

__all__ = [
    "AE",
    "CVAE",
    "DCA",
    "GAN",
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
    "load",
]

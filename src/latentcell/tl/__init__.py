"""One-call verbs on AnnData, in scanpy's manner; each is imported on first use."""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "ae": "_embed",
    "augment": "_augment",
    "compare": "_compare",
    "cvae": "_embed",
    "denoise": "_denoise",
    "describe_latent": "_describe",
    "disentangled_vae": "_embed",
    "enrich_latent_genes": "_enrich",
    "gan": "_gan",
    "interpolate": "_paths",
    "latent_directions": "_directions",
    "move_along": "_paths",
    "rank_latent_genes": "_latent_genes",
    "scvis": "_maps",
    "sweep": "_sweep",
    "vae": "_embed",
    "vasc": "_maps",
    "vsc": "_embed",
}

__all__ = [
    "ae",
    "augment",
    "compare",
    "cvae",
    "denoise",
    "describe_latent",
    "disentangled_vae",
    "enrich_latent_genes",
    "gan",
    "interpolate",
    "latent_directions",
    "move_along",
    "rank_latent_genes",
    "scvis",
    "sweep",
    "vae",
    "vasc",
    "vsc",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

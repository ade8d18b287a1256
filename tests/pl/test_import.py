import subprocess
import sys

import latentcell as lc


def test_drawing_needs_no_torch():
    code = (
        "import sys, latentcell as lc; lc.pl.history; "
        "print(sorted({'torch', 'lightning', 'scvi', 'latentcell.model'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    assert sorted(lc.pl.__all__) == [
        "architecture",
        "augmentation",
        "denoised",
        "disentanglement",
        "embedding",
        "heatmap",
        "history",
        "latent_genes",
        "latent_heatmap",
        "latent_traversal",
        "mean_variance",
        "path",
        "perturbation",
        "rate_distortion",
        "scores",
    ]
    assert all(callable(getattr(lc.pl, name)) for name in lc.pl.__all__)

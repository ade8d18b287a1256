"""GANs: generators that learn from a critic, of all cells or of cells of a chosen label."""

from ._adversarial import AbstractAdversarial


class GAN(AbstractAdversarial):
    r"""Wasserstein GAN with gradient penalty: draws cells that a critic cannot tell from real ones.

    The critic D maximises :math:`E D(x) - E D(\tilde x) - \lambda E(\|\nabla D\| - 1)^2`, whose optimum
    approaches the Wasserstein-1 distance of real and drawn cells as :math:`\lambda` grows; the generator
    minimises it. As in scGAN the generator has batch norm and ReLU, its output is a composition that is
    scaled to a cell's depth, and it is trained with several steps of the critic for each of its own, at a
    rate that decays to a tenth. Otherwise than there, depths are those of training cells rather than one
    number, and both networks are told them; drawn counts are counts (drawn from the generator's rates, also
    in training, with gradients that pass straight through); and cells are drawn by the running mean of the
    generator's weights.

    Parameters
    ----------
    adata
        Cells, set up with :meth:`setup_anndata`.
    registry
        Registry of another AnnData, instead of cells; for loading.
    n_latent
        Dimensions of the noise. Fewer than the directions in which cells vary cannot make all of their
        spread.
    hidden
        Units of the generator's layers, from noise to genes.
    critic_hidden
        Units of the critic's layers, from genes to score.
    gene_likelihood
        What the generator puts out. ``"poisson"``: rates of Poisson counts; ``"nb"``: of negative binomial
        ones, whose dispersions are learned as well; ``"relu"``: values not below 0, with exact zeros, as in
        scGAN; ``"identity"``: any values. ``"auto"``: ``"poisson"`` for counts, as the noise of codes makes
        rates differ between cells already (negative binomial counts took twice as long and were told from
        real ones as easily); ``"relu"`` for other data without negative values, else ``"identity"``.
    penalty_weight
        Weight of the gradient penalty (10 in the paper).
    decay
        Of the running mean of the generator's weights per step; 0 takes the last weights.
    seed
        Of weights, training and draws.

    References
    ----------
    Marouf et al., Nature Communications 2020, `doi:10.1038/s41467-019-14018-z
    <https://doi.org/10.1038/s41467-019-14018-z>`__ (scGAN); Gulrajani et al., NeurIPS 2017,
    `arXiv:1704.00028 <https://arxiv.org/abs/1704.00028>`__ (WGAN-GP); Ghahramani, Watt and Luscombe 2018,
    `doi:10.1101/262501 <https://doi.org/10.1101/262501>`__.

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.GAN.setup_anndata(adata)
    >>> model = lc.model.GAN(adata, hidden=(16,), critic_hidden=(16,))
    >>> model.train(max_epochs=3, enable_progress_bar=False)
    >>> model.generate(5, seed=1).shape
    (5, 1000)
    """

    CONDITIONAL = False


class ConditionalGAN(AbstractAdversarial):
    """GAN that draws cells of a chosen label.

    As :class:`GAN`; the label gives the generator's norms a scale and shift of their own (conditional batch
    norm), and the critic a direction in its last layer (projection), as in cscGAN. Labels are drawn as often
    as they come among the training cells; :meth:`generate` draws any of them, by name.

    Parameters
    ----------
    adata
        Cells, set up with ``setup_anndata(adata, labels_key=...)``.
    registry, n_latent, hidden, critic_hidden, gene_likelihood, penalty_weight, decay, seed
        See :class:`GAN`.

    Raises
    ------
    DataError
        If no labels were set up.

    References
    ----------
    Marouf et al., Nature Communications 2020, `doi:10.1038/s41467-019-14018-z
    <https://doi.org/10.1038/s41467-019-14018-z>`__ (cscGAN); Miyato and Koyama, ICLR 2018,
    `arXiv:1802.05637 <https://arxiv.org/abs/1802.05637>`__ (projection).

    Examples
    --------
    >>> import latentcell as lc
    >>> adata = lc.datasets.simulate_groups(seed=0)
    >>> lc.model.ConditionalGAN.setup_anndata(adata, labels_key="group")
    >>> model = lc.model.ConditionalGAN(adata, hidden=(16,), critic_hidden=(16,))
    >>> model.train(max_epochs=3, enable_progress_bar=False)
    >>> model.generate(labels={"group2": 3, "group1": 2}, seed=1).obs["group"].tolist()
    ['group2', 'group2', 'group2', 'group1', 'group1']
    """

    CONDITIONAL = True

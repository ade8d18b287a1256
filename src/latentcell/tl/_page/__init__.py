"""The page of :func:`latentcell.tl.report`: a file per section, and parts that other pages share."""

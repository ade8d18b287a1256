"""Parts that models are composed of: torch only, nothing here knows AnnData or scvi-tools."""

"""What is written down of each epoch."""

import lightning.pytorch as pl


def keep(plan: pl.LightningModule, records: list[dict[str, float]], record: dict[str, float]) -> None:
    """Add the record of an epoch to a plan's, and hand it to the user's loggers."""
    records.append(record)
    for logger in plan.loggers:
        logger.log_metrics({k: v for k, v in record.items() if k != "epoch"}, step=plan.current_epoch)

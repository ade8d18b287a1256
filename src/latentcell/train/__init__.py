"""The Lightning side: cells to batches, one training plan, guards, and the run itself."""

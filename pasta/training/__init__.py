"""The training loop: the plan of updates, checkpoints, learning rate, held-out pairs."""

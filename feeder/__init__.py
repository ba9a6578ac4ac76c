"""From arrays on disk to batches of augmented streams, whole batches at a time, on the training device."""

"""Training: one network at a time, in a run folder, in a way that survives being killed."""

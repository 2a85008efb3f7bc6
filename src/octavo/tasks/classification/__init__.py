"""Image classification by an ensemble of networks."""

"""Semantic segmentation by one fully convolutional network."""

"""Loaded networks that answer for images: paths, encoded bytes, Pillow images and arrays."""

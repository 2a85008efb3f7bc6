"""Figures: each a function from data to a matplotlib figure of its own, none through pyplot's global state."""

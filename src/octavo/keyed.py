"""Randomness by key: numbers that are a pure function of what they are for, never of what was drawn before.

Written by hand because the libraries' generators are made for streams: NumPy's Philox costs a generator object an image
(some 20 µs each), and torch's generators have a state that would have to be saved to go on with the same bits.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ORDER = 0x6F72646572  # keeps the order of images apart from every other use of (seed, epoch)


def _mix(state: np.ndarray) -> np.ndarray:
    """Return `state` scrambled: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 16)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _words(key: int | np.ndarray) -> np.ndarray:
    """Return a key as unsigned 64-bit words; negative integers wrap."""
    if isinstance(key, np.ndarray):
        return key.astype(np.int64).view(np.uint64)
    return np.array(int(key) & (2**64 - 1), dtype=np.uint64)


def uniform(seed: int, *keys: int | np.ndarray, n: int) -> np.ndarray:
    """Return `n` uniform numbers in [0, 1) for each key: float64 [..., n], where ... is the keys' broadcast shape.

    The numbers of one combination of seed and keys are the same whatever else is asked for beside it. The order of the
    keys matters, and every use of randomness should have a key of its own.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2⁶⁴ is the point
        state = _mix(_words(seed) + _GOLDEN)
        for key in keys:
            state = _mix((state ^ _words(key)) + _GOLDEN)
        state = _mix(state[..., None] + np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return a random order of 0 … n-1, int64 [n], that depends on `n`, `seed` and `epoch` alone."""
    return np.argsort(uniform(seed, _ORDER, epoch, np.arange(n), n=1)[:, 0], kind="stable")


def seed_of(*parts: int | str) -> int:
    """Return a seed in [0, 2⁶³) for `torch.manual_seed`, the same for the same parts on every machine and Python."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

"""Rule: one way to make a number of confusions, and what it makes of a set of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from octavo.numbers.averages import Confusions, Count, Doubles, Flags, Means, Measure


@dataclass(frozen=True, eq=False)
class Scored:
    """What a rule makes of a set of images."""

    value: float | None
    """The number; `None` where the rule's formula divides zero by zero."""
    per_class: Doubles
    """[C]: IoU (or accuracy) of each class as this rule counts it; not a number where it has none."""
    counted: Flags
    """[C]: whether the class enters the mean."""


@dataclass(frozen=True)
class Rule:
    """One way to make a number of confusions."""

    name: str
    title: str
    source: str
    """Library with version and function, or paper with section."""
    text: str
    """The sentence that defines it."""
    absent: str
    """What becomes of a class that occurs neither in truth nor in prediction (of an image, where `by_image`)."""
    count: Count
    """Confusions int64 [n,C+1,C+1] → which pixels of each image count, [n,C]."""
    measure: Measure
    """(counts [n,C], scored [C], weight [R,n] of the images) → the rule's numbers."""
    by_image: bool = False
    """Whether it looks at each image by itself."""
    scored_alone: bool = False
    """Whether classes that the table doesn't score are left out of the mean."""

    def means(self, confusions: Confusions, scored: Flags) -> Callable[[Doubles], Means]:
        """Return the function from weights [R,n] of the images to the rule's numbers.

        Raises:
            ValueError: confusions that aren't [n,C+1,C+1] with n, C >= 1, or flags that aren't [C].
        """
        images, side = confusions.shape[0], confusions.shape[-1]
        if confusions.shape != (images, side, side) or images < 1 or side < 2 or scored.shape != (side - 1,):
            raise ValueError(f"expected confusions [n,C+1,C+1], scored [C]; got {confusions.shape}, {scored.shape}")
        counts = self.count(confusions)
        return lambda weight: self.measure(counts, scored, weight)

    def score(self, confusions: Confusions, scored: Flags) -> Scored:
        """Return the rule's number for confusions int64 [n,C+1,C+1] of n images and flags bool [C].

        Raises:
            ValueError: as `means`.
        """
        result = self.means(confusions, scored)(np.ones((1, len(confusions))))
        value = float(result.value[0])
        return Scored(None if np.isnan(value) else value, result.per_class[0], result.counted[0])

"""Names of predictions matched to the images of a truth: by whole path, else by the longest end of one that fits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

_AMBIGUOUS = -1
OTHER_SPLIT, SEVERAL, UNKNOWN = "belong to another split", "fit several images", "are unknown"
"""Why a name belongs to no image of the scored part."""

Spellings = Sequence[Iterable[str]]
"""The names of one file, the strictest spelling first; spellings of one rank are compared with each other alone."""


def composed(path: str) -> str:
    """Return a path in one form: composed Unicode (macOS writes é as e and ´), no leading `./`."""
    return unicodedata.normalize("NFC", path).removeprefix("./")


def ends_of(path: str) -> list[str]:
    """Return `a/b/c`, `b/c`, `c`; a path with backslashes alone is taken as one from Windows."""
    parts = (path if "/" in path else path.replace("\\", "/")).split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclass(frozen=True, eq=False)
class TruthNames:
    """The images of a truth by path and by every end of a path: of the part that is scored, and of the other splits.

    Attributes:
        whole: for each rank of spelling, path → place of an image of the part.
        ends: the same of every end of a path; that of several images is none's.
        other_whole: paths of images of the other splits.
    """

    whole: tuple[dict[str, int], ...]
    ends: tuple[dict[str, int], ...]
    other_whole: tuple[frozenset[str], ...]

    @cached_property
    def other_ends(self) -> tuple[frozenset[str], ...]:
        """The ends of paths of images of the other splits."""
        return tuple(frozenset(end for name in names for end in ends_of(name)) for names in self.other_whole)

    @classmethod
    def of(cls, spellings: Sequence[Spellings], part: Iterable[int]) -> TruthNames:
        """Return the index of images, each with the spellings of its name, `part` of which are scored."""
        chosen, ranks = set(part), range(len(spellings[0]) if spellings else 1)
        whole: tuple[dict[str, int], ...] = tuple({} for _ in ranks)
        ends: tuple[dict[str, int], ...] = tuple({} for _ in ranks)
        others: tuple[set[str], ...] = tuple(set() for _ in ranks)
        for i, own in enumerate(spellings):
            for rank, names in enumerate(own):
                if i not in chosen:
                    others[rank].update(names)
                    continue
                whole[rank].update(dict.fromkeys(names, i))
                for end in {end for name in names for end in ends_of(name)}:
                    ends[rank][end] = _AMBIGUOUS if ends[rank].get(end, i) != i else i
        outside = tuple(frozenset(names - known.keys()) for names, known in zip(others, whole, strict=True))
        return cls(whole, ends, outside)

    def find(self, spellings: Spellings) -> tuple[int | None, str]:
        """Return the image that a name belongs to and how it was found (`path`, `end of path`, `name`), or why none.

        An end with a folder that fits images of another split alone belongs to these; a bare file name may be in two
        splits, and is then the scored part's.
        """
        tails = _by_length(spellings)
        for rank, tail in tails:
            if tail in self.whole[rank]:
                return self.whole[rank][tail], "path"
            if tail in self.other_whole[rank]:
                return None, OTHER_SPLIT
        for rank, tail in tails:
            if (i := self.ends[rank].get(tail)) is not None:
                return (None, SEVERAL) if i == _AMBIGUOUS else (i, "end of path" if "/" in tail else "name")
            if "/" in tail and self._elsewhere_alone(tail, tails):
                return None, OTHER_SPLIT
        known = any(tail in self.other_ends[rank] for rank, tail in tails)
        return None, OTHER_SPLIT if known else UNKNOWN

    def _elsewhere_alone(self, tail: str, tails: Sequence[tuple[int, str]]) -> bool:
        """Tell whether an end of that length fits images of other splits, and in no spelling one of the part."""
        depth = tail.count("/")
        same = [(rank, other) for rank, other in tails if other.count("/") == depth]
        return any(t in self.other_ends[rank] for rank, t in same) and not any(t in self.ends[rank] for rank, t in same)


def _by_length(spellings: Spellings) -> list[tuple[int, str]]:
    """Return (rank, end) of every end of a name, the longest first, of equal ones the strictest spelling."""
    found = [(rank, end) for rank, names in enumerate(spellings) for name in names for end in ends_of(name)]
    found += [(rank, name) for rank, names in enumerate(spellings) for name in names]
    return sorted(dict.fromkeys(found), key=lambda pair: (-pair[1].count("/"), pair[0]))


def in_another_folder(name: str, file: str) -> bool:
    """Tell whether a name is of a file in a folder, and not in the one in which its image lies."""
    named, own = ends_of(composed(name)), ends_of(composed(file))
    return "/" in named[0] and len(own) > 1 and named[-2] != own[-2]

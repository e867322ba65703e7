"""What the times of a run say: of each pair of kinds whether it can be told apart, and of the run whether it counts.

A pair passes when the whole interval of 99 % of its shift lies within the margin, of all blocks and of the faster half
of them; it fails when its shift is beyond the margin and, corrected for the number of pairs, not by chance. What is
neither takes more blocks. A p-value alone decides nothing: of enough blocks everything is significant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

from timing.figures import auc, auc_interval, deviation, holm, interval, shift, signed_rank

PASS, FAIL, INCONCLUSIVE, VOID = "PASS", "FAIL", "INCONCLUSIVE", "VOID"

#: Two kinds are the same, and cannot differ; one has a leak, and must.
UNKNOWN, AGAIN, LEAK = "unknown", "unknown again", "leak"

_CHANCE = 0.01

#: Nanoseconds, by the kind of address that was asked for; all of them one after the other, in some order.
Block = Mapping[str, int]


@dataclass(frozen=True)
class Margin:
    """How much two kinds may differ."""

    #: In nanoseconds; or as a share of the median.
    shift: float | None = None
    share: float | None = None
    #: In nanoseconds, how far an unknown address may be from others where asking makes it known, so that it can be
    #: asked once; None: as far as all others.
    once: float | None = None
    #: How far the AUC may be from one half, where that counts.
    auc: float | None = None
    #: Whether anything that does not fail passes, as in the short run.
    only_fails: bool = False

    def nanoseconds(self, blocks: Sequence[Block]) -> float:
        """Return how much the shift may be."""
        if self.shift is not None:
            return self.shift
        return (self.share or 0) * median(block[UNKNOWN] for block in blocks)


@dataclass(frozen=True)
class Sample:
    """The differences of one pair in some blocks, in nanoseconds."""

    shift: float
    low: float
    high: float
    #: Corrected for all pairs, where it is of a pair.
    chance: float

    @classmethod
    def of(cls, differences: Sequence[int]) -> Sample:
        """Return what differences come to."""
        return cls(shift(differences), *interval(differences), signed_rank(differences))

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def is_within(self, margin: float) -> bool:
        """Tell whether the whole interval is."""
        return -margin < self.low and self.high < margin

    def is_beyond(self, margin: float) -> bool:
        """Tell whether the shift is, and not by chance."""
        return abs(self.shift) > margin and self.chance < _CHANCE and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Pair:
    """Two kinds, compared."""

    one: str
    other: str
    medians: tuple[float, float]
    all: Sample
    #: The half of the blocks that took least, as blocks: choosing by single times would itself favour one kind.
    fastest: Sample
    deviation: float
    auc: float
    auc_interval: tuple[float, float] | None

    @classmethod
    def of(cls, blocks: Sequence[Block], one: str, other: str, *, dice: random.Random | None) -> Pair:
        """Compare two kinds; with ``dice`` the interval of the AUC is found, too."""
        ones, others = [block[one] for block in blocks], [block[other] for block in blocks]
        totals = sorted(sum(block.values()) for block in blocks)
        limit = totals[(len(totals) - 1) // 2]
        fastest = [block[one] - block[other] for block in blocks if sum(block.values()) <= limit]
        differences = [a - b for a, b in zip(ones, others, strict=True)]
        return cls(
            one,
            other,
            (median(ones), median(others)),
            Sample.of(differences),
            Sample.of(fastest),
            deviation(differences),
            auc(ones, others),
            None if dice is None else auc_interval(ones, others, dice),
        )

    def verdict(self, margin: float, allowed: Margin) -> str:
        """Return PASS, FAIL or INCONCLUSIVE. ``margin`` is in nanoseconds."""
        samples = (self.all,) if allowed.only_fails else (self.all, self.fastest)
        low, high = self.auc_interval if self.auc_interval is not None else (0.5, 0.5)
        width = allowed.auc if allowed.auc is not None else 1
        if any(one.is_beyond(margin) for one in samples) or low > 0.5 + width or high < 0.5 - width:
            return FAIL
        is_within = all(one.is_within(margin) for one in samples) and 0.5 - width < low and high < 0.5 + width
        return PASS if is_within or allowed.only_fails else INCONCLUSIVE


@dataclass(frozen=True)
class Findings:
    """What a run has found. ``margin`` is in nanoseconds."""

    blocks: int
    margin: float
    allowed: Margin
    pairs: tuple[Pair, ...]
    #: The pair that cannot differ, and the one that must.
    same: Pair
    planted: Pair | None

    @classmethod
    def of(cls, blocks: Sequence[Block], allowed: Margin, seed: int) -> Findings:
        """Compare every two kinds."""
        dice = None if allowed.only_fails else random.Random(seed)
        kinds = [kind for kind in blocks[0] if kind not in {AGAIN, LEAK}]
        pairs = [Pair.of(blocks, one, other, dice=dice) for one, other in combinations(kinds, 2)]
        return cls(
            len(blocks),
            allowed.nanoseconds(blocks),
            allowed,
            tuple(_corrected(pairs)),
            Pair.of(blocks, AGAIN, UNKNOWN, dice=dice),
            Pair.of(blocks, LEAK, UNKNOWN, dice=dice) if LEAK in blocks[0] else None,
        )

    def verdict_of(self, pair: Pair) -> str:
        """Return the verdict of one pair."""
        return pair.verdict(self.margin_of(pair), self.allowed)

    def margin_of(self, pair: Pair) -> float:
        """Return by how much one pair may differ, in nanoseconds."""
        kinds = {pair.one, pair.other}
        is_asked_once = UNKNOWN in kinds and not kinds & {AGAIN, LEAK}
        return self.allowed.once if self.allowed.once is not None and is_asked_once else self.margin

    @property
    def fault(self) -> str | None:
        """Why the run says nothing; None when it does."""
        if self.same.all.half_width > self.margin / 2:
            noise = self.same.all.half_width / self.margin
            return f"the machine is too noisy: what is the same is known to {noise:.2f} of the margin, and not to 0.5"
        if self.verdict_of(self.same) != PASS:
            return "what is the same was told apart, or nearly"
        if self.planted is not None and self.verdict_of(self.planted) != FAIL:
            return "the planted leak was not found"
        return None

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or VOID."""
        if self.fault is not None:
            return VOID
        found = {self.verdict_of(pair) for pair in self.pairs}
        return next((verdict for verdict in (FAIL, INCONCLUSIVE) if verdict in found), PASS)

    def confirmed_by(self, other: Findings) -> bool:
        """Tell whether some pair fails in both runs, and in the same direction. A void run confirms nothing."""
        failed = {(pair.one, pair.other, pair.all.shift > 0) for pair in self.pairs if self.verdict_of(pair) == FAIL}
        again = {
            side
            for pair in other.pairs
            if other.verdict_of(pair) == FAIL
            for side in ((pair.one, pair.other, pair.all.shift > 0), (pair.other, pair.one, pair.all.shift < 0))
        }
        return other.fault is None and bool(failed & again)


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with their p-values corrected for all of them, and for both samples of each."""
    chances = holm([sample.chance for pair in pairs for sample in (pair.all, pair.fastest)])
    return [
        replace(
            pair,
            all=replace(pair.all, chance=chances[2 * number]),
            fastest=replace(pair.fastest, chance=chances[2 * number + 1]),
        )
        for number, pair in enumerate(pairs)
    ]

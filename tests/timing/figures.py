"""The statistics of the timing test, for whole numbers such as nanoseconds.

Means and t-tests are of no use here: a few requests that the machine delays by milliseconds outweigh all others. The
estimate of Hodges and Lehmann and the signed-rank test of Wilcoxon that belongs to it take differences by their order.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, median

#: Up to so many differences the distribution of the signed-rank statistic is counted out, beyond it is normal.
_EXACT = 50


def shift(differences: Sequence[int]) -> float:
    """Return the estimate of Hodges and Lehmann: the median of the means of all pairs, each with itself as well."""
    ordered = sorted(differences)
    number = _pairs(len(ordered))
    # Of an odd number both are the same.
    return (_sum_at(ordered, (number + 1) // 2) + _sum_at(ordered, number // 2 + 1)) / 4


def interval(differences: Sequence[int], level: float = 0.99) -> tuple[float, float]:
    """Return the confidence interval of the shift that belongs to the signed-rank test; infinite for too few."""
    ordered = sorted(differences)
    rank = _lower_rank(len(ordered), (1 - level) / 2)
    if rank == 0:
        return float("-inf"), float("inf")
    return _sum_at(ordered, rank) / 2, _sum_at(ordered, _pairs(len(ordered)) + 1 - rank) / 2


def signed_rank(differences: Sequence[int]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test. Differences of zero are left out."""
    sizes = sorted(abs(one) for one in differences if one)
    number = len(sizes)
    if number == 0:
        return 1.0
    # Of equal sizes each has the mean of their ranks.
    ranks = {size: (bisect_left(sizes, size) + 1 + bisect_right(sizes, size)) / 2 for size in set(sizes)}
    positive = sum(ranks[one] for one in differences if one > 0)
    smaller = min(positive, _pairs(number) - positive)
    if number <= _EXACT and len(ranks) == number:
        return min(1.0, 2 * _chances(number)[int(smaller)])
    ties = sum(count**3 - count for count in (bisect_right(sizes, size) - bisect_left(sizes, size) for size in ranks))
    deviation = (number * (number + 1) * (2 * number + 1) / 24 - ties / 48) ** 0.5
    return min(1.0, 2 * NormalDist().cdf((smaller + 0.5 - _pairs(number) / 2) / deviation))


def auc(one: Sequence[int], other: Sequence[int]) -> float:
    """Return how often a value of ``one`` is larger than one of ``other``; equal ones count half."""
    return _wins(one, sorted(other)) / (len(one) * len(other))


def auc_interval(
    one: Sequence[int],
    other: Sequence[int],
    dice: random.Random,
    *,
    level: float = 0.99,
    size: int = 25,
    resamples: int = 1000,
) -> tuple[float, float]:
    """Return the confidence interval of the AUC by a bootstrap of runs of ``size``: neighbours in time are alike."""
    starts = range(0, len(one), size)
    ones = [one[start : start + size] for start in starts]
    others = [sorted(other[start : start + size]) for start in starts]
    wins = [[_wins(mine, theirs) for theirs in others] for mine in ones]
    found = []
    for _ in range(resamples):
        drawn = Counter(dice.choices(range(len(ones)), k=len(ones))).items()
        total = sum(times * len(ones[number]) for number, times in drawn)
        won = sum(some * times * wins[row][column] for row, some in drawn for column, times in drawn)
        found.append(won / total**2)
    found.sort()
    outside = int(resamples * (1 - level) / 2)
    return found[outside], found[-1 - outside]


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for how many there are, by the method of Holm."""
    corrected, least = [0.0] * len(chances), 0.0
    for place, number in enumerate(sorted(range(len(chances)), key=lambda number: chances[number])):
        least = max(least, min(1.0, (len(chances) - place) * chances[number]))
        corrected[number] = least
    return corrected


def deviation(values: Sequence[int]) -> float:
    """Return what would be the standard deviation if they were normal, without minding a few that are far off."""
    middle = median(values)
    # 1.4826 is 1 / the upper quartile of the normal distribution.
    return 1.4826 * median(abs(value - middle) for value in values)


def _pairs(number: int) -> int:
    return number * (number + 1) // 2


def _sum_at(ordered: Sequence[int], rank: int) -> int:
    """Return the sum of two that is the ``rank``-th smallest of all, counted from 1, without making them all."""
    low, high = 2 * ordered[0], 2 * ordered[-1]
    while low < high:
        middle = (low + high) // 2
        if _sums_up_to(ordered, middle) >= rank:
            high = middle
        else:
            low = middle + 1
    return low


def _sums_up_to(ordered: Sequence[int], limit: int) -> int:
    """Return how many sums of two, each with itself as well, are at most ``limit``."""
    found, last = 0, len(ordered) - 1
    for first, value in enumerate(ordered):
        while last >= first and value + ordered[last] > limit:
            last -= 1
        if last < first:
            break
        found += last - first + 1
    return found


def _lower_rank(number: int, outside: float) -> int:
    """Return which of the ordered means bounds the interval from below; 0 when there are too few for any."""
    if number <= _EXACT:
        return sum(chance <= outside for chance in _chances(number))
    middle = _pairs(number) / 2
    spread = (number * (number + 1) * (2 * number + 1) / 24) ** 0.5
    return max(0, int(middle + NormalDist().inv_cdf(outside) * spread))


@cache
def _chances(number: int) -> list[float]:
    """Return how likely the signed-rank statistic of so many differences is at most 0, 1, 2 and so on."""
    ways = [1] + [0] * _pairs(number)
    for rank in range(1, number + 1):
        for total in range(_pairs(rank), rank - 1, -1):
            ways[total] += ways[total - rank]
    found, seen = [], 0
    for way in ways:
        seen += way
        found.append(seen / 2**number)
    return found


def _wins(one: Sequence[int], ordered: Sequence[int]) -> float:
    return sum((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in one)

"""The statistics of the timing test give known answers."""

from __future__ import annotations

import random
from itertools import product
from statistics import NormalDist, median

import pytest
from timing.figures import auc, auc_interval, deviation, holm, interval, shift, signed_rank

#: Hamilton's depression scale of nine patients, after less before, in thousandths: the example by which Hollander and
#: Wolfe explain these methods ("Nonparametric Statistical Methods", table 3.1).
PATIENTS = [-952, 147, -1022, -430, -620, -590, -490, 80, -10]


def _means(values: list[int]) -> list[float]:
    return sorted((a + b) / 2 for number, a in enumerate(values) for b in values[number:])


def _signed_sums(number: int) -> list[int]:
    return sorted(sum(signs) for signs in product(*((0, rank) for rank in range(1, number + 1))))


def test_known_answers() -> None:
    """The published example has its published shift, interval of 96 % and one-sided p-value."""
    assert shift(PATIENTS) == -460
    assert interval(PATIENTS, 0.95) == (-786, -10)
    assert signed_rank(PATIENTS) == pytest.approx(2 * 0.019531, abs=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3, 10, 25, 60, 61])
def test_the_shift_is_the_median_of_all_means(number: int) -> None:
    """The shift is the one that making all means of pairs gives."""
    dice = random.Random(number)
    values = [dice.randrange(-1000, 1000) for _ in range(number)]

    assert shift(values) == median(_means(values))


def test_the_interval_is_counted_out() -> None:
    """For a few differences the interval is cut off where all signs, tried out, say that so much is too unlikely."""
    dice = random.Random(1)
    values = [dice.randrange(-(10**6), 10**6) for _ in range(12)]
    sums = _signed_sums(12)
    rank = next(limit for limit in range(100) if sum(total <= limit for total in sums) / len(sums) > 0.005)

    assert interval(values) == (_means(values)[rank - 1], _means(values)[-rank])


def test_the_interval_of_too_few_is_infinite() -> None:
    """Seven differences can give no interval of 99 %, and eight can: two in 2 to the power of eight are below 1 %."""
    assert interval(range(7)) == (float("-inf"), float("inf"))
    assert interval(range(8)) == (0, 7)


def test_the_interval_holds_what_it_promises() -> None:
    """Of 400 intervals of 90 % about 40 miss the true shift, of few differences as of many."""
    for number in (20, 80):
        dice = random.Random(number)
        samples = [[round(dice.gauss(0, 1000)) + 50 for _ in range(number)] for _ in range(400)]
        missed = sum(not low <= 50 <= high for low, high in (interval(sample, 0.9) for sample in samples))

        assert 25 <= missed <= 56, number


def test_counting_out_and_the_normal_distribution_agree() -> None:
    """Where one ends and the other begins, both give nearly the same p-value."""
    dice = random.Random(3)
    values = [dice.randrange(-(10**6), 12 * 10**5) for _ in range(50)]

    exact, normal = signed_rank(values), signed_rank([*values, 0, values[0]])

    assert 0.01 < exact < 0.9
    assert exact == pytest.approx(normal, rel=0.15)


def test_the_p_value_is_the_share_of_signs() -> None:
    """For a few differences the p-value is the share of all signs that give a sum as far off."""
    values = [3, -1, 7, 12, -2, 5, 9, 4]
    sums = _signed_sums(8)
    ranks = {size: rank for rank, size in enumerate(sorted(map(abs, values)), 1)}
    negative = sum(ranks[-value] for value in values if value < 0)

    assert signed_rank(values) == 2 * sum(total <= negative for total in sums) / len(sums)


def test_equal_differences_share_their_ranks() -> None:
    """With equal sizes the normal distribution is used, and zeros count for nothing."""
    values = [1, 1, 1, -1, 2, 2, 0, 0]
    # Ranks 2.5 four times and 5.5 twice: 2.5 on the negative side, of 21. Variance 6*7*13/24 - (60 + 6)/48.
    expected = 2 * NormalDist().cdf((2.5 + 0.5 - 10.5) / (22.75 - 66 / 48) ** 0.5)

    assert signed_rank(values) == pytest.approx(expected)
    assert signed_rank([0, 0]) == 1


def test_one_direction_is_as_good_as_the_other() -> None:
    """With all signs turned, shift and interval are turned, and the p-value stays."""
    turned = [-one for one in PATIENTS]

    assert shift(turned) == -shift(PATIENTS)
    assert interval(turned) == tuple(-bound for bound in reversed(interval(PATIENTS)))
    assert signed_rank(turned) == signed_rank(PATIENTS)


def test_the_auc_counts_pairs() -> None:
    """The AUC is the share of pairs in which the first is larger, and equal ones count half."""
    assert auc([5, 6], [1, 2, 3]) == 1
    assert auc([1, 2, 3], [5, 6]) == 0
    assert auc([1, 2, 3], [3, 2, 1]) == 0.5
    assert auc([2, 4], [1, 2, 5]) == (1.5 + 2) / 6


def test_the_interval_of_the_auc_holds_it() -> None:
    """The interval lies around the AUC, is narrower for more values, and is the same for the same dice."""
    dice = random.Random(5)
    one, other = ([round(dice.gauss(mean, 1000)) for _ in range(810)] for mean in (200, 0))

    low, high = auc_interval(one, other, random.Random(1))
    fewer = auc_interval(one[:200], other[:200], random.Random(1))

    assert low < auc(one, other) < high
    assert 0.03 < high - low < fewer[1] - fewer[0]
    assert auc_interval(one, other, random.Random(1)) == (low, high)


def test_the_interval_of_the_auc_minds_neighbours() -> None:
    """Where neighbours are alike, the interval is wider than drawing single values would make it."""
    dice = random.Random(7)
    hills = [dice.gauss(0, 3000) for _ in range(16)]
    one = [round(hills[number // 25] + dice.gauss(0, 100)) for number in range(400)]
    other = [round(dice.gauss(0, 3000)) for _ in range(400)]

    in_runs, alone = (auc_interval(one, other, random.Random(1), size=size, resamples=200) for size in (25, 1))

    assert in_runs[1] - in_runs[0] > 2 * (alone[1] - alone[0])


def test_holm() -> None:
    """The smallest of n p-values is taken n times, the next n-1 times, none below one before it, and none above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_a_few_far_off_do_not_change_the_deviation() -> None:
    """The deviation of normal values is theirs, also when one in fifty is a hundred times as far off."""
    dice = random.Random(9)
    values = [round(dice.gauss(0, 1000) * (100 if number % 50 == 0 else 1)) for number in range(5000)]

    assert deviation(values) == pytest.approx(1000, rel=0.06)

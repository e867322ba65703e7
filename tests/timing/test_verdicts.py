"""The verdicts of the timing test are right for times whose truth is known, because it was made up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from timing.verdicts import AGAIN, FAIL, INCONCLUSIVE, LEAK, PASS, UNKNOWN, VOID, Block, Findings, Margin, Pair

MS = 1_000_000
#: As in the long runs: a quarter of a millisecond; and 3 % of the median with an AUC.
PATHS = Margin(shift=0.25 * MS)
HASHES = Margin(share=0.03, auc=0.05)
SHORT = Margin(shift=25 * MS, only_fails=True)
USUAL = {UNKNOWN: 0.0, AGAIN: 0.0, LEAK: 1.0, "verified": 0.0, "pending": 0.0}


def _blocks(
    number: int,
    seed: int,
    shifts: Mapping[str, float] = USUAL,
    *,
    base: float = 2.2,
    noise: float = 0.25,
    drifts: bool = True,
) -> list[Block]:
    """Return made-up times: noise around a base in ms, perhaps a drift, and requests that the machine holds up."""
    dice, blocks, drift = random.Random(seed), [], 0.0
    for _ in range(number):
        drift = 0.98 * drift + dice.gauss(0, noise) if drifts else 0.0
        times = {
            kind: base
            + 3 * noise
            + drift
            + shift
            + dice.gauss(0, noise)
            + (dice.expovariate(0.2) if dice.random() < 0.05 else 0)
            for kind, shift in shifts.items()
        }
        blocks.append({kind: round(time * MS) for kind, time in times.items()})
    return blocks


def test_what_is_the_same_passes() -> None:
    """In 20 runs of 800 blocks without a difference, each passes."""
    found = [Findings.of(_blocks(800, seed), PATHS, seed).verdict for seed in range(20)]

    assert found == [PASS] * 20


def test_what_differs_fails() -> None:
    """In 20 runs of 800 blocks in which one kind takes 0.5 ms more, each fails, for that kind and for no other."""
    for seed in range(20):
        findings = Findings.of(_blocks(800, seed, {**USUAL, "verified": 0.5}), PATHS, seed)

        failed = {frozenset((pair.one, pair.other)) for pair in findings.pairs if findings.verdict_of(pair) == FAIL}
        assert findings.verdict == FAIL
        assert failed == {frozenset((UNKNOWN, "verified")), frozenset(("verified", "pending"))}


def test_a_difference_at_the_margin_does_not_pass() -> None:
    """A difference just as large as the margin never passes in 20 runs; some fail, and some are inconclusive."""
    found = [Findings.of(_blocks(800, seed, {**USUAL, "verified": 0.25}), PATHS, seed).verdict for seed in range(20)]

    assert set(found) == {FAIL, INCONCLUSIVE}


def test_a_difference_that_is_sure_but_small_passes() -> None:
    """A difference far below the margin passes, although it is beyond all chance."""
    findings = Findings.of(_blocks(3000, 1, {**USUAL, "verified": 0.1}), PATHS, 1)

    [pair] = [pair for pair in findings.pairs if (pair.one, pair.other) == (UNKNOWN, "verified")]
    assert pair.all.chance < 1e-10
    assert findings.verdict == PASS


def test_an_address_that_is_asked_once_may_differ_by_more() -> None:
    """Where an unknown address is asked only once it may be further from the others, which may not differ more."""
    once = replace(PATHS, once=0.5 * MS)
    others = {kind: 0.0 if kind in {UNKNOWN, AGAIN} else 0.35 for kind in USUAL}

    found = [Findings.of(_blocks(800, 1, {**others, LEAK: 1.0, **more}), once, 1) for more in ({}, {"verified": 0.0})]

    assert [findings.verdict for findings in found] == [PASS, FAIL]
    failed = {frozenset((pair.one, pair.other)) for pair in found[1].pairs if found[1].verdict_of(pair) == FAIL}
    assert failed == {frozenset(("verified", "pending"))}


def test_few_blocks_are_inconclusive_or_void() -> None:
    """Fifty blocks pass nothing: what they know is too little."""
    assert {Findings.of(_blocks(50, seed, noise=0.7), PATHS, seed).verdict for seed in range(10)} <= {
        INCONCLUSIVE,
        VOID,
    }


def test_a_noisy_machine_makes_a_run_void() -> None:
    """Where what is the same is not known to half the margin, the run is void, and says why."""
    findings = Findings.of(_blocks(100, 1, noise=1.5), PATHS, 1)

    assert findings.verdict == VOID
    assert "too noisy" in str(findings.fault)


def test_a_run_that_tells_the_same_apart_is_void() -> None:
    """Where what is the same differs, the run is void, and says why, whatever else it has found."""
    findings = Findings.of(_blocks(800, 1, {**USUAL, AGAIN: 0.5, "verified": 0.5}), PATHS, 1)

    assert (findings.verdict, findings.fault) == (VOID, "what is the same was told apart, or nearly")


def test_a_run_that_finds_no_planted_leak_is_void() -> None:
    """Where the planted leak is not found, the run is void, and says why."""
    findings = Findings.of(_blocks(800, 1, {**USUAL, LEAK: 0.0}), PATHS, 1)

    assert (findings.verdict, findings.fault) == (VOID, "the planted leak was not found")


def test_a_run_without_a_leak_does_without() -> None:
    """Where nothing is planted, nothing must be found."""
    shifts = {kind: shift for kind, shift in USUAL.items() if kind != LEAK}

    assert Findings.of(_blocks(800, 1, shifts), PATHS, 1).verdict == PASS


def test_what_only_the_fastest_blocks_show_fails() -> None:
    """A difference that noise covers in the slower half of the blocks is found in the faster one."""
    calm = _blocks(100, 1, {**USUAL, "verified": 0.4})
    dice = random.Random(2)
    loud = [{kind: time + 20 * MS + round(dice.gauss(0, 40) * MS) for kind, time in block.items()} for block in calm]
    mixed = [pair for blocks in zip(calm, loud, strict=True) for pair in blocks]

    pair = Pair.of(mixed, "verified", UNKNOWN, dice=None)

    assert not pair.all.is_beyond(0.25 * MS)
    assert pair.fastest.is_beyond(0.25 * MS)
    assert pair.verdict(0.25 * MS, PATHS) == FAIL


def test_choosing_the_fastest_blocks_favours_nobody() -> None:
    """In the faster half of the blocks what is the same is still the same, also where its noise is not."""
    dice = random.Random(4)
    blocks = [{"calm": round(dice.gauss(10, 0.1) * MS), "loud": round(dice.gauss(10, 3) * MS)} for _ in range(4000)]
    rest = [{**block, "others": round(dice.gauss(60, 10) * MS)} for block in blocks]

    assert abs(Pair.of(rest, "loud", "calm", dice=None).fastest.shift) < 1 * MS


HASHING = {UNKNOWN: 0.0, AGAIN: 0.0, LEAK: -250.0, "verified": 0.0}


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, PASS), (-250.0, FAIL), (-125.0, FAIL)], ids=["equal", "no hash", "half a hash"]
)
def test_hashes_are_told_apart_by_shift_and_auc(shift: float, verdict: str) -> None:
    """At the cost of production, a hash that is missing or cheaper is found in 800 blocks, and nothing else."""
    found = {
        Findings.of(_blocks(800, seed, {**HASHING, "verified": shift}, base=280, noise=7), HASHES, seed).verdict
        for seed in range(3)
    }

    assert found == {verdict}


def test_an_auc_that_is_not_known_well_does_not_pass() -> None:
    """With 100 blocks the shift of hashes may be known well enough, but not the AUC."""
    findings = Findings.of(_blocks(100, 1, HASHING, base=280, noise=4, drifts=False), HASHES, 1)

    pair = findings.pairs[0]
    assert pair.all.is_within(findings.margin)
    assert findings.verdict_of(pair) == INCONCLUSIVE


def test_an_auc_beyond_its_bounds_fails() -> None:
    """A difference within 3 % fails where it can be told from a single answer as often as 65 times of 100."""
    findings = Findings.of(_blocks(800, 1, {**HASHING, "verified": 5.0}, base=280, noise=2, drifts=False), HASHES, 1)

    pair = findings.pairs[0]
    assert pair.all.is_within(findings.margin)
    assert pair.auc_interval is not None
    assert findings.verdict_of(pair) == FAIL


def test_the_short_run_passes_what_does_not_fail() -> None:
    """In 30 blocks a missing hash is found each time, and nothing that is equal, on a machine that is busy."""
    for seed in range(30):
        equal = Findings.of(_blocks(30, seed, HASHING, base=250, noise=15), SHORT, seed)
        missing = Findings.of(_blocks(30, seed, {**HASHING, "verified": -100}, base=250, noise=15), SHORT, seed)

        assert equal.verdict in {PASS, VOID}
        assert missing.verdict in {FAIL, VOID}


def test_the_short_run_is_void_on_a_machine_that_is_too_busy() -> None:
    """In 30 blocks with noise as large as a hash nothing fails: the run is void."""
    found = {Findings.of(_blocks(30, seed, HASHING, base=250, noise=80), SHORT, seed).verdict for seed in range(20)}

    assert found == {VOID}


def test_a_failure_is_confirmed_by_one_in_the_same_direction() -> None:
    """A failure counts when a fresh run fails for the same pair in the same direction, also with the kinds swapped."""
    slower, faster, equal = (
        Findings.of(_blocks(800, seed, {**USUAL, "verified": shift}), PATHS, seed)
        for seed, shift in ((1, 1.0), (2, -1.0), (3, 0.0))
    )
    swapped = {kind: {**USUAL, "verified": 1.0}[kind] for kind in reversed(USUAL)}

    assert slower.confirmed_by(slower)
    assert slower.confirmed_by(Findings.of(_blocks(800, 4, swapped), PATHS, 4))
    assert not slower.confirmed_by(faster)
    assert not slower.confirmed_by(equal)
    assert not slower.confirmed_by(Findings.of(_blocks(800, 5, {**USUAL, "verified": 1.0, LEAK: 0.0}), PATHS, 5))

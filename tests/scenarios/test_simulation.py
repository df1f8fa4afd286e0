"""Fifty nodes on virtual time, hundreds of seeds (thousands with --long): whatever breaks, the rules hold.

And the simulation is worth its while: with one of the rules removed it finds a breach, and what it finds it finds again.
"""

from __future__ import annotations

import pytest

from tests.scenarios import player, variants, world

SEEDS = 200
LONG_SEEDS = 4000
BLOCK = 50
LONG_BLOCK = 200
FAULTS_SHOWN = 60
FOUND_BY = {"late_registries_accuse": 82}
"""The seed that found a variant last time, where that is none of the first: it is tried first, with those after it."""


def blocks(long: bool) -> list[range]:
    first, end, block = (SEEDS, SEEDS + LONG_SEEDS, LONG_BLOCK) if long else (0, SEEDS, BLOCK)
    return [range(each, min(each + block, end)) for each in range(first, end, block)]


def judge(played: list[world.Played]) -> None:
    """Fail with the first bad seed, how to play it again, what broke, and what was done before."""
    bad = [each for each in played if each.violations]
    if bad:
        first = bad[0]
        broken = "\n".join(first.violations[:20])
        done = "\n".join(first.faults[:FAULTS_SHOWN])
        pytest.fail(
            f"seeds {[each.seed for each in bad]} break the rules; again with: pytest tests/scenarios --seed {first.seed}\n"
            f"{broken}\nWhat was done:\n{done}",
            pytrace=False,
        )


def test_the_rules_hold(seeds, record_property, request):
    played = player.play(seeds, trace=request.config.getoption("--seed", default=None) is not None)
    assert [each.seed for each in played] == list(seeds)
    judge(played)
    assert sum(each.counts["calls ok"] for each in played) > 50 * len(seeds), "hardly a call went well: nothing was tried"
    record_property("figure", f"seeds {seeds.start} to {seeds.stop - 1}: {_sums(played)}")


@pytest.mark.long
def test_the_rules_hold_in_thousands_of_seeds(seeds):
    judge(player.play(seeds))


@pytest.mark.parametrize("variant", sorted(variants.VARIANTS))
def test_a_variant_with_a_rule_removed_is_caught(variant):
    first = FOUND_BY.get(variant, 0)
    tries = (player.play(each, variant, until_caught=True) for each in (range(first, SEEDS), range(first)) if each)
    assert any(played[-1].violations for played in tries), f"none of {SEEDS} seeds finds it"


def test_a_seed_replays():
    one, other = (player.play(range(3, 4)) for _ in range(2))
    assert one == other


def _sums(played: list[world.Played]) -> str:
    return ", ".join(f"{sum(each.counts[what] for each in played)} {what}" for what in played[0].counts)

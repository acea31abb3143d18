"""The rate limit against limits of every kind, on a simulated clock: what it reaches, and what it wastes."""

import random
from collections.abc import Callable

import pytest

from tests.llm.rate_limit.simulation import Simulation
from tests.provider.limits import AtOnce, Bucket, FixedMinute, Limit, SlidingMinute, Telling
from tests.servers import Child

RPM = 900
KINDS: dict[str, Callable[[Telling], Limit]] = {
    "small bucket": lambda telling: Bucket(RPM, telling, burst=10),
    "sliding minute": lambda telling: SlidingMinute(RPM, telling),
    "minute of the clock, early": lambda telling: FixedMinute(RPM, telling, phase=3),
    "minute of the clock, late": lambda telling: FixedMinute(RPM, telling, phase=40),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_telling = pytest.mark.parametrize("telling", Telling, ids=[telling.value for telling in Telling])


@pytest.fixture
def url(redis_server: Child, settings) -> str:
    return settings.REDIS_URL


def least(telling: Telling) -> float:
    return 0.97 if telling == Telling.HEADERS else 0.85


@every_telling
@every_kind
def test_a_cold_start_reaches_the_limit(url: str, kind: Callable[[Telling], Limit], telling: Telling) -> None:
    result = Simulation(url, kind(telling), 1500).run()
    assert 1500 / max(result.answered) / (RPM / 60) >= least(telling)
    assert result.wasted <= (0 if telling == Telling.HEADERS else 0.05)


@every_telling
@every_kind
def test_it_follows_a_limit_that_is_halved_and_doubled_again(
    url: str, kind: Callable[[Telling], Limit], telling: Telling
) -> None:
    limit = kind(telling)

    def change(per_minute: int) -> Callable[[], None]:
        return lambda: setattr(limit, "per_minute", per_minute)

    result = Simulation(url, limit, 3600, change={100.0: change(RPM // 2), 200.0: change(RPM)}).run()
    # At the moment of the fall a minute of the old limit may be used up, which takes half a minute from the new one.
    used_up = 0 if isinstance(limit, Bucket) else RPM / 4
    allowed = (max(result.answered) - 50) * RPM / 60 - used_up
    assert 3600 / allowed >= least(telling)
    assert result.wasted <= (0.005 if telling == Telling.HEADERS else 0.05)


@every_telling
@pytest.mark.parametrize(("shortest", "longest", "stories"), [(0.15, 0.25, 1500), (5, 20, 300)])
def test_a_limit_of_calls_at_once_is_kept(
    url: str, telling: Telling, shortest: float, longest: float, stories: int
) -> None:
    def latency(dice: random.Random) -> float:
        return dice.uniform(shortest, longest)

    result = Simulation(url, AtOnce(RPM, telling, most=8), stories, latency=latency).run()
    fastest = stories * (shortest + longest) / 2 / 8
    assert fastest / max(result.answered) >= 0.85
    assert result.wasted <= 0.05


def test_a_limit_of_calls_at_once_that_is_halved_and_doubled(url: str) -> None:
    limit = AtOnce(RPM, Telling.NOTHING, most=8)

    def change(most: int) -> Callable[[], None]:
        return lambda: setattr(limit, "most", most)

    result = Simulation(url, limit, 3600, change={40.0: change(4), 80.0: change(8)}).run()
    assert 3600 * 0.2 / (8 * (max(result.answered) - 20)) >= 0.85
    assert result.wasted <= 0.05


@every_telling
def test_what_the_settings_name_is_kept_from_the_first_call_on(url: str, telling: Telling) -> None:
    result = Simulation(url, SlidingMinute(RPM, telling), 1500, settings={"requests_set": RPM}).run()
    assert 1500 / max(result.answered) / (RPM / 60) >= 0.97
    assert not result.refused
    result = Simulation(url, AtOnce(RPM, telling, most=8), 500, settings={"calls_set": 8}).run()
    assert not result.refused


@every_kind
def test_a_storm_of_refusals_is_one_event(url: str, kind: Callable[[Telling], Limit]) -> None:
    """The pace after it is what was taken, however many calls met it."""
    few = Simulation(url, kind(Telling.NOTHING), 1500, trip=0.01).run()
    many = Simulation(url, kind(Telling.NOTHING), 1500, trip=0.5).run()
    assert len(many.refused) > len(few.refused)
    assert max(many.answered) < 1.15 * max(few.answered)


def test_slow_answers_are_not_taken_for_a_slow_limit(url: str) -> None:
    """A call that is being answered for seconds was taken at once."""
    result = Simulation(
        url, Bucket(300, Telling.NOTHING, burst=10), 700, latency=lambda dice: dice.uniform(1, 3)
    ).run()
    assert 700 / max(result.answered) / 5 >= 0.85
    assert result.wasted <= 0.05

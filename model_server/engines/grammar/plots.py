"""The five orders in which a story can be told: paragraphs of steps, each step one sentence drawn from a pool.

The composer knows three steps by name (DEMO, USE, TYPE), because their pools depend on the power and the type.
A plot's number of paragraphs and its narrator (我 only in E) are its own: a model that learns from the stories can tell
the plots apart by them.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import endings, fights, openings

Pool = tuple[str, ...]
DEMO: Pool = ("demo",)
USE: Pool = ("use",)
TYPE: Pool = ("type",)


@dataclass(frozen=True)
class PlotStep:
    """One sentence; left out with probability `skip`."""

    pool: Pool
    skip: float = 0.0


@dataclass(frozen=True)
class Plot:
    """Paragraphs of steps; `weight` is how often the plot is chosen."""

    paragraphs: tuple[tuple[PlotStep, ...], ...]
    weight: int


def _steps(*given: Pool | PlotStep) -> tuple[PlotStep, ...]:
    return tuple(one if isinstance(one, PlotStep) else PlotStep(one) for one in given)


PLOTS = (
    Plot(  # A: straight on, five paragraphs
        (
            _steps(openings.INTRO, openings.PASSAGE),
            _steps(openings.ARRIVE, PlotStep(openings.MEET, skip=0.3)),
            _steps(openings.GAIN, PlotStep(DEMO, skip=0.4)),
            _steps(
                fights.MONSTER, fights.ULTRAMAN, PlotStep(fights.RESOLVE, skip=0.6), TYPE, USE, fights.FINISH
            ),
            _steps(fights.VERDICT, endings.ENDING),
        ),
        weight=3,
    ),
    Plot(  # B: in the middle of things, three paragraphs
        (
            _steps(endings.ALARM, endings.STRANGER),
            _steps(
                endings.WHO,
                openings.PASSAGE,
                PlotStep(openings.MEET, skip=0.7),
                openings.GAIN,
                PlotStep(DEMO, skip=0.4),
            ),
            _steps(
                endings.MEANWHILE,
                fights.ULTRAMAN,
                TYPE,
                USE,
                fights.FINISH,
                fights.VERDICT,
                endings.ENDING,
            ),
        ),
        weight=2,
    ),
    Plot(  # C: told by someone, four paragraphs
        (
            _steps(endings.FRAME),
            _steps(
                openings.PASSAGE, PlotStep(openings.ARRIVE, skip=0.2), openings.GAIN, PlotStep(DEMO, skip=0.4)
            ),
            _steps(
                fights.MONSTER, fights.ULTRAMAN, PlotStep(fights.RESOLVE, skip=0.6), TYPE, USE, fights.FINISH
            ),
            _steps(fights.VERDICT, endings.FRAME_END),
        ),
        weight=2,
    ),
    Plot(  # D: failure first, six paragraphs
        (
            _steps(openings.INTRO, openings.PASSAGE),
            _steps(PlotStep(openings.ARRIVE, skip=0.2), openings.GAIN),
            _steps(fights.MONSTER, endings.FAILURE),
            _steps(endings.LESSON),
            _steps(endings.AGAIN, fights.ULTRAMAN, TYPE, USE, fights.FINISH),
            _steps(fights.VERDICT, endings.ENDING),
        ),
        weight=2,
    ),
    Plot(  # E: told by a witness, five paragraphs
        (
            _steps(endings.WITNESS),
            _steps(PlotStep(endings.DOUBT, skip=0.2), openings.PASSAGE, endings.FRIENDS),
            _steps(openings.GAIN, PlotStep(DEMO, skip=0.5)),
            _steps(
                fights.MONSTER, PlotStep(endings.EYES, skip=0.4), fights.ULTRAMAN, TYPE, USE, fights.FINISH
            ),
            _steps(fights.VERDICT, endings.WITNESS_END),
        ),
        weight=2,
    ),
)

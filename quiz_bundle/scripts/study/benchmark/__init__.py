"""The benchmark: QUIZ and its peers on the same pairs of known truth, and what QUIZ costs."""

from .answers import single_answers
from .cost import measure_cost
from .run import run_benchmark
from .speed import measure_speed
from .verdicts import judge_verdicts

__all__ = ["judge_verdicts", "measure_cost", "measure_speed", "run_benchmark", "single_answers"]

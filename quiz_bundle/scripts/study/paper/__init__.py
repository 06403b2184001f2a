"""The paper's tables and figures on data of known truth, and the page of results."""

from .collect import collect
from .figures import draw_figures
from .results import write_results
from .tables import run_tables

__all__ = ["collect", "draw_figures", "run_tables", "write_results"]

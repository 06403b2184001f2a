"""Research: benchmark, peers, baselines, data sets, the paper's tables; no registration needs it."""

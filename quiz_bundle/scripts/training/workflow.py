"""Runs of the bundle's own training configs from Python, for commands that train and then measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigWorkflow


def run_workflow(bundle_root: str | Path, run_id: str, overlays: Sequence[str] = (), **options: object) -> ConfigWorkflow:
    """Run a list of ``train.json`` with overlays to its end, as ``monai.bundle run`` does.

    Args:
        bundle_root: folder of the bundle.
        run_id: name of the list, such as "training" or "evaluating".
        overlays: names in ``configs`` without their ending, laid over ``train.json`` in this order.
        options: top-level ids, such as ``datalist`` or ``max_epochs``.

    Returns:
        The workflow, whose parsed parts can still be asked for.
    """
    files = [str(Path(bundle_root) / "configs" / f"{name}.json") for name in ("train", *overlays)]
    workflow = ConfigWorkflow(
        files, run_id=run_id, workflow_type="train", logging_file=False, bundle_root=str(bundle_root), **options
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow

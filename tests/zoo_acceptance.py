"""What MONAI's model zoo does with a bundle, in its order, in an empty folder: fetch, verify, export, load, run.

Run as a program by test_archive.py, in a process that knows nothing of the repository:
``zoo_acceptance.py ARCHIVE_URL SCHEMA FIXED MOVING LANDMARKS``, results to ``found.json``.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from monai.bundle import ckpt_export, create_workflow, download, load, verify_metadata, verify_net_in_out
from monai.data import load_net_with_metadata


def accept(url: str, schema: str, fixed: str, moving: str, landmarks: str) -> dict:
    here = Path.cwd()
    found: dict = {"before": [path.name for path in here.iterdir()]}
    download(name="quiz_bundle", bundle_dir=here, url=url, progress=False)
    bundle = here / "quiz_bundle"
    files = {name: str(bundle / "configs" / f"{name}.json") for name in ("metadata", "inference", "train")}
    sys.path.insert(0, str(bundle))  # the zoo does so too: MONAI itself does it only when a workflow runs
    verify_metadata(meta_file=files["metadata"], filepath=shutil.copy(schema, here))
    made = {
        kind: create_workflow(config_file=files[kind], workflow_type=kind, bundle_root=str(bundle), device="cpu", **lazy)
        for kind, lazy in (("inference", {}), ("train", {"cache_rate": 0.0}))
    }
    found["missing"] = {kind: workflow.check_properties() for kind, workflow in made.items()}
    common = {"net_id": "network_def", "meta_file": files["metadata"], "config_file": files["inference"], "device": "cpu"}
    verify_net_in_out(**common, bundle_root=str(bundle))
    script = bundle / "models" / "verify_model.ts"
    weights = str(bundle / "models" / "model.pt")
    ckpt_export(**common, filepath=str(script), ckpt_file=weights, bundle_root=str(bundle))
    exported, metadata, _ = load_net_with_metadata(str(script), "cpu")
    script.unlink()
    network = load("quiz_bundle", bundle_dir=here, workflow_type="inference", device="cpu").eval()
    found["from"] = sys.modules[type(network).__module__].__file__
    found["version"] = metadata["version"]
    image = torch.rand(1, 2, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found["export_differs_by"] = float((exported(image) - network(image)).abs().max())
    run = {"fixed": fixed, "moving": moving, "landmarks": landmarks, "output_dir": str(here / "out"), "device": "cpu"}
    workflow = create_workflow(
        config_file=files["inference"],
        workflow_type="inference",
        bundle_root=str(bundle),
        spacing_mm=5.0,
        queries_per_pass=400,
        **run,
    )
    workflow.run()
    found["written"] = sorted(path.name for path in (here / "out").iterdir())
    found["report"] = json.loads((here / "out" / "report.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    result = accept(*sys.argv[1:])
    Path("found.json").write_text(json.dumps(result), encoding="utf-8")

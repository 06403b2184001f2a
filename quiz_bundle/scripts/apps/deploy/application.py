"""The graph of the application, and where its parts find their folders."""

from __future__ import annotations

from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator

from ...core.errors import InputError
from .operators import CheckedSeriesToVolume, Registrar, RegistrationWriter, RoleSelector
from .selection import ROLES, read_rules

RULES = Path("configs", "deploy_selection.json")


class RegistrationApplication(Application):
    """Registers a brachytherapy CT to a planning CT: DICOM studies in, registration object and report out.

    ``load -> select fixed -> fixed volume -> register -> write``, and the same for the moving series. Input, output and
    model (the bundle's folder) come from the command line or from the variables that a packaged application sets.
    """

    def compose(self) -> None:
        """Make the operators and connect them.

        Raises:
            InputError: the model is no bundle, the input no folder, or the rules are not as they should be.
        """
        context: AppContext = Application.init_app_context(self.argv)
        folder, output = shown(context.input_path), shown(context.output_path)
        bundle = bundle_of(shown(context.model_path))
        if not folder.is_dir():
            raise InputError(folder, "a folder of DICOM studies", "none", "give -i FOLDER")
        rules = read_rules(bundle / RULES)
        load = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=folder, must_load=False, name="load")
        where = {"folder": folder, "rules_file": bundle / RULES}
        register = Registrar(self, bundle=bundle, name="register", **where)
        for role in ROLES:
            select = RoleSelector(self, role=role, rule=rules[role], name=f"select_{role}", **where)
            to_volume = CheckedSeriesToVolume(self, folder=folder, name=f"{role}_volume")
            self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
            self.add_flow(select, to_volume, {("study_selected_series_list", "study_selected_series_list")})
            self.add_flow(to_volume, register, {("image", role)})
        write = RegistrationWriter(self, folder=output, name="write")
        self.add_flow(register, write, {("registration", "registration")})


def shown(path: str | Path) -> Path:
    """A path as short as it can be written here; the SDK makes all of them absolute."""
    path, here = Path(path).absolute(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def bundle_of(model: Path) -> Path:
    """The bundle's folder: the model's own, or the one in it, as in a packaged application.

    Raises:
        InputError: neither.
    """
    bundles = [found.parents[1] for pattern in ("", "*/") for found in model.glob(f"{pattern}configs/inference.json")]
    if not bundles:
        raise InputError(model, "the folder of the bundle", "no configs/inference.json in it", "give -m quiz_bundle")
    return bundles[0]

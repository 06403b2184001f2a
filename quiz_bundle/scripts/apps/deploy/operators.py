"""The application's own operators: select by the site's rules, read and check, register, write.

The first two are the SDK's own with one method replaced, and the same inputs and outputs. The SDK's selector takes the
first series that fits and knows no whole words; its volume operator does not look whether slices are missing, uneven or
tilted, and swaps row and column spacing (``docs/deploy.md``). Its loader keeps one slice of several at the same place and
says nothing, so the files of the chosen series are read again, by the reader of the command line: that is why both give
the same registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.deploy.core import ExecutionContext, Fragment, Image, InputContext, Operator, OperatorSpec, OutputContext
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from pydicom import Dataset

from ...images.dicom.series import load_series
from ...images.volumes import make_volume
from ...registration.register import register
from ...report.write import write_outputs
from .rt_files import find_objects
from .selection import Rule, check_pair, choose, text_of


class RoleSelector(DICOMSeriesSelectorOperator):
    """Selects the one series of all studies that may play a role.

    Args:
        fragment: the application.
        folder: where the studies come from, for messages.
        role: "fixed" or "moving".
        rule: of this role.
        rules_file: where it can be edited, for messages.
    """

    def __init__(self, fragment: Fragment, *, folder: Path, role: str, rule: Rule, rules_file: Path, name: str) -> None:
        self.folder, self.role, self.rule, self.rules_file = folder, role, rule, rules_file
        super().__init__(fragment, name=name)

    def filter(
        self, selection_rules: object, dicom_study_list: Sequence[DICOMStudy], *of_the_sdk: object
    ) -> list[StudySelectedSeries]:
        """One study with one selected series; the SDK's own rules and its ways to take the first are not used.

        Raises:
            InputError: no series fits, or several do.
        """
        found = [(study, series) for study in dicom_study_list for series in study.get_all_series()]
        headers = [header_of(series) for _, series in found]
        study, series = found[choose(self.folder, self.role, self.rule, headers, self.rules_file)]
        selected = StudySelectedSeries(study)
        selected.add_selected_series(SelectedSeries(self.role, series))
        return [selected]


def header_of(series: object) -> Dataset:
    """The data set of any one instance of the SDK's series."""
    return series.get_sop_instances()[0].get_native_sop_instance()


class CheckedSeriesToVolume(DICOMSeriesToVolumeOperator):
    """Turns the selected series into an image, read and checked by ``dicom.series.load_series``.

    Args:
        fragment: the application.
        folder: where the series' files are.
    """

    def __init__(self, fragment: Fragment, *, folder: Path, name: str) -> None:
        self.folder = folder
        super().__init__(fragment, name=name)

    def convert_to_image(self, study_selected_series_list: Sequence[StudySelectedSeries]) -> Image:
        """The image as (K, J, I), the SDK's order (depth, height, width); its ``affine`` maps ijk to RAS mm.

        Raises:
            InputError: the slices do not make a volume.
        """
        selected = study_selected_series_list[0].selected_series[0]
        header = header_of(selected.series)
        name = text_of(header, "SeriesDescription") or selected.selection_name
        volume = load_series(self.folder, name, text_of(header, "SeriesInstanceUID"))
        selected.image = image_of(volume)
        return selected.image


def image_of(volume: MetaTensor) -> Image:
    """A volume (1, I, J, K) as the SDK's image (K, J, I) of the same memory, its meta as metadata."""
    return Image(volume.as_tensor()[0].permute(2, 1, 0).numpy(), dict(volume.meta))


def volume_of(image: Image) -> MetaTensor:
    """The volume (1, I, J, K) of an image made by ``image_of``."""
    data = torch.from_numpy(image.asnumpy()).permute(2, 1, 0)[None]
    return make_volume(data.contiguous(), image.metadata()["affine"], image.metadata())


class Registrar(Operator):
    """Registers the two images with the network and the settings of a bundle's ``configs/inference.json``.

    What the studies hold of structures and dose is carried over (``rt_files.find_objects``).

    Args:
        fragment: the application.
        folder: where the series come from, for messages.
        bundle: the bundle's folder.
        rules_file: where the rules can be edited, for messages.
    """

    def __init__(self, fragment: Fragment, *, folder: Path, bundle: Path, rules_file: Path, name: str) -> None:
        self.folder, self.bundle, self.rules_file = folder, bundle, rules_file
        super().__init__(fragment, name=name)

    def setup(self, spec: OperatorSpec) -> None:
        """Two images in, one registration out."""
        spec.input("fixed")
        spec.input("moving")
        spec.output("registration")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Register.

        Raises:
            InputError: the series are not of one patient, or one and the same; or there are several structure sets or
                doses to choose from.
        """
        fixed, moving = (volume_of(op_input.receive(role)) for role in ("fixed", "moving"))
        check_pair(self.folder, fixed.meta["series"].header, moving.meta["series"].header, self.rules_file)
        config = ConfigParser()
        config.read_config(self.bundle / "configs" / "inference.json")
        config["bundle_root"] = str(self.bundle)
        network, options = (config.get_parsed_content(key) for key in ("network", "options"))
        carried = find_objects(self.folder, fixed, moving)
        op_output.emit(register(fixed, moving, network=network, options=options, **carried), "registration")


class RegistrationWriter(Operator):
    """Writes the registration object, the report and the other files of ``run inference`` into a folder.

    Args:
        fragment: the application.
        folder: where to.
    """

    def __init__(self, fragment: Fragment, *, folder: Path, name: str) -> None:
        self.folder = folder
        super().__init__(fragment, name=name)

    def setup(self, spec: OperatorSpec) -> None:
        """One registration in."""
        spec.input("registration")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Write.

        Raises:
            InputError: the folder cannot be written.
        """
        # An archive takes DICOM only, and a refused result has no registration object to speak for it.
        write_outputs(op_input.receive("registration"), self.folder, report_dicom=True)

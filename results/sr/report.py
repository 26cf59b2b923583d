"""All nodules of a series as a measurement report (TID 1500)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from noduleserve.errors import SeriesError
from noduleserve.results.outcome import Outcome, ReleaseInfo

from . import codes
from .group import Algorithm, coded, nodule_group, nodule_name, text
from .source import SourceSeries
from .uids import stable_uid

if TYPE_CHECKING:
    from highdicom.sr import MeasurementReport, ObservationContext, TextContentItem


def measurement_report(
    series: SourceSeries, outcomes: Sequence[Outcome], info: ReleaseInfo, algorithm: Algorithm
) -> MeasurementReport:
    """The report's tree: a measurement group for each nodule with a score, a text for each without.

    No group stands for a nodule without a score: a group asserts a finding at a place, and where nothing was
    computed, the place may be what is wrong. The nodule is not left out in silence either: a text names it and why.

    Raises:
        SeriesError: SR_NOTHING_SCORED, SR_OTHER_SERIES, SR_SCORE_INVALID.
    """
    from highdicom.sr import MeasurementReport

    scored = [outcome for outcome in outcomes if outcome.score is not None]
    if not scored:
        raise SeriesError(
            "SR_NOTHING_SCORED",
            f"None of the series' {len(outcomes)} nodules has a score.",
            "See the table of results for what kept each from being scored.",
        )
    report = MeasurementReport(
        observation_context=_observation_context(algorithm),
        procedure_reported=coded(codes.PROCEDURE),
        title=coded(codes.TITLE),
        imaging_measurements=[nodule_group(outcome, series, info, algorithm) for outcome in scored],
    )
    content = report[0].ContentSequence
    for container in (report[0], content[-1], *content[-1].ContentSequence):
        container.ContinuityOfContent = "SEPARATE"  # or viewers set the numbers as running text, without their names
    for item in _remarks(outcomes, info):  # before the measurements, so that nobody reads them without
        content.insert(len(content) - 1, item)
    return report


def _remarks(outcomes: Sequence[Outcome], info: ReleaseInfo) -> list[TextContentItem]:
    failed = [outcome for outcome in outcomes if outcome.score is None]
    remarks = [text(codes.NOTICE, info.notice)] if info.notice else []
    remarks.append(text(codes.COUNT, f"{len(outcomes) - len(failed)} scored, {len(failed)} not scored"))
    for outcome in failed:
        center = outcome.nodule.center
        at = "" if center is None else " at ({:.2f}, {:.2f}, {:.2f}) mm".format(*center)
        reason = f"[{outcome.error_code}] {outcome.error}"
        remarks.append(text(codes.NOT_SCORED, f"{nodule_name(outcome)}{at}: {reason}"))
    return remarks


def _observation_context(algorithm: Algorithm) -> ObservationContext:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes as standard

    device = DeviceObserverIdentifyingAttributes(
        uid=stable_uid("device", algorithm.version, algorithm.release),
        name="noduleserve",
        manufacturer_name="noduleserve",
        model_name=f"noduleserve {algorithm.version}",
        serial_number=algorithm.release,
    )
    return ObservationContext(observer_device_context=ObserverContext(standard.DCM.Device, device))

"""How a server runs a release on its machine: instances, threads, batches, queues; never what it computes.

A release is never edited.  The settings change the models' configurations in the private copy that Triton is started
on, so that the release's hashes and the release id in every answer stay what they are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from noduleserve.errors import ServerError
from noduleserve.release import Release

_CONFIG = "config.pbtxt"


def _setting(low: int, high: int) -> Any:
    """A field of ServerSettings with the bounds of its values."""
    return field(default=None, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class ServerSettings:
    """What a machine may decide about a release; None leaves it to the release.

    No setting changes a score beyond what the release does of itself: batches stay within its largest, and on target
    `embedded` every nodule is computed alone.

    Attributes:
        preprocess_instances: processes that cut views out of boxes, one thread each (1 to 64).
        encoder_instances: copies of the encoder (1 to 64); each loads the weights for itself.
        encoder_threads: threads of each of them (1 to 1024); target `embedded` only.
        encoder_batch: nodules that the encoder would rather compute together, at most the release's largest batch. On
            target `embedded` these are computed one after the other all the same, and answered together.
        encoder_delay_us: microseconds that a nodule waits for others (0 to 1,000,000).
        encoder_priority_levels: 2: nodules of priority `interactive` overtake those of priority `night` that wait for
            the encoder; 0: first come, first served. With levels Triton 2.51 prepares none while another is encoded,
            and may leave a free encoder idle for up to half a second once nothing more comes; a quick encoder loses
            half of its throughput.
        similarity_instances: processes of the last model (1 to 64).
        max_queue: nodules of each priority that may wait for the preprocessing, and for the encoder (1 to 100,000); the
            next is refused with SERVER_BUSY, which clients take as a word to come again. Costs what levels cost.
    """

    preprocess_instances: int | None = _setting(1, 64)
    encoder_instances: int | None = _setting(1, 64)
    encoder_threads: int | None = _setting(1, 1024)
    encoder_batch: int | None = _setting(1, 1024)
    encoder_delay_us: int | None = _setting(0, 1_000_000)
    encoder_priority_levels: int | None = _setting(0, 2)
    similarity_instances: int | None = _setting(1, 64)
    max_queue: int | None = _setting(1, 100_000)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, low, high = getattr(self, setting.name), setting.metadata["low"], setting.metadata["high"]
            if value is None:
                continue
            if type(value) is not int or not low <= value <= high:  # a bool is an int to isinstance
                raise _invalid(f"{setting.name} is {value!r}", f"It is a whole number from {low} to {high}.")

    @classmethod
    def read(cls, file: Path) -> ServerSettings:
        """Settings of a TOML file, a line a setting (`encoder_instances = 2`).

        Raises:
            ServerError: SETTINGS_NOT_FOUND, SETTINGS_INVALID.
        """
        try:
            content = tomllib.loads(file.read_text())
        except OSError as error:
            raise ServerError(
                "SETTINGS_NOT_FOUND",
                f"{file.name} cannot be read: {error.strerror or error}.",
                "Name a file that `noduleserve bench tune` wrote, or leave --settings out.",
            ) from None
        except ValueError as error:  # of TOML, or of UTF-8
            raise _invalid(f"{file.name} is not TOML ({error})", "A line a setting: encoder_instances = 2") from None
        known = [setting.name for setting in fields(cls)]
        if strange := sorted(content.keys() - set(known)):
            raise _invalid(f"{file.name} has {', '.join(strange)}", f"There is {', '.join(known)}.")
        return cls(**content)

    @property
    def chosen(self) -> dict[str, int]:
        """The settings that are not left to the release, by name."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.chosen.items()) or "as the release says"


def changed_configurations(release: Release, settings: ServerSettings) -> dict[str, str]:
    """The configurations that settings change, and nothing else.

    Returns:
        Path within the model repository -> text of a config.pbtxt.

    Raises:
        ServerError: SETTINGS_DO_NOT_FIT.
    """
    target = str(release.manifest["target"])
    if settings.encoder_threads is not None and target != "embedded":
        raise _does_not_fit(f"encoder_threads is for target embedded, and this release's is {target}")
    changed: dict[str, str] = {}
    for model, change in _CHANGES.items() if settings.chosen else ():
        path, config = f"{model}/{_CONFIG}", _configuration(release, model)
        before = config.SerializeToString(deterministic=True)
        change(config, settings)
        if config.SerializeToString(deterministic=True) != before:
            changed[path] = text_format.MessageToString(config)
    return changed


def own_settings(release: Release) -> ServerSettings:
    """What a release says of itself, as far as its configurations say it; its threads and queues are not bounded."""
    preprocess, encoder, similarity = (_configuration(release, model) for model in _CHANGES)
    batching = encoder.dynamic_batching
    return ServerSettings(
        preprocess_instances=preprocess.instance_group[0].count,
        encoder_instances=encoder.instance_group[0].count,
        encoder_batch=batching.preferred_batch_size[0] if batching.preferred_batch_size else None,
        encoder_delay_us=batching.max_queue_delay_microseconds,
        encoder_priority_levels=batching.priority_levels,
        similarity_instances=similarity.instance_group[0].count,
    )


def largest_batch(release: Release) -> int:
    """Nodules that a release's encoder computes together at most."""
    return int(_configuration(release, "nodule_encoder").max_batch_size)


def _configuration(release: Release, model: str) -> Any:
    return text_format.Parse((release.repository / model / _CONFIG).read_text(), model_config_pb2.ModelConfig())


def _change_preprocess(config: Any, settings: ServerSettings) -> None:
    _set_instances(config, settings.preprocess_instances)
    _set_levels(config, settings.encoder_priority_levels)  # or the night would be let through to the encoder first
    _set_queue(config, settings.max_queue)


def _change_encoder(config: Any, settings: ServerSettings) -> None:
    _set_instances(config, settings.encoder_instances)
    _set_queue(config, settings.max_queue)
    if settings.encoder_batch is not None:
        if settings.encoder_batch > config.max_batch_size:
            raise _does_not_fit(
                f"encoder_batch is {settings.encoder_batch}, and the release's largest batch is {config.max_batch_size}"
            )
        config.dynamic_batching.preferred_batch_size[:] = [settings.encoder_batch]
    if settings.encoder_delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = settings.encoder_delay_us
    _set_levels(config, settings.encoder_priority_levels)


def _change_similarity(config: Any, settings: ServerSettings) -> None:
    _set_instances(config, settings.similarity_instances)


_CHANGES: dict[str, Callable[[Any, ServerSettings], None]] = {
    "nodule_preprocess": _change_preprocess,
    "nodule_encoder": _change_encoder,
    "nodule_similarity": _change_similarity,
}


def _set_levels(config: Any, levels: int | None) -> None:
    if levels is not None:
        config.dynamic_batching.priority_levels = levels
        config.dynamic_batching.default_priority_level = min(1, levels)


def _set_instances(config: Any, count: int | None) -> None:
    if count is not None:
        for group in config.instance_group:
            group.count = count


def _set_queue(config: Any, length: int | None) -> None:
    """Triton counts each priority by itself: the policy is for every level that has none of its own.

    What was cancelled stays in the queue of Triton 2.51 until the model looks again, half a second later at most.
    """
    if length is not None:
        config.dynamic_batching.default_queue_policy.max_queue_size = length


def _invalid(what: str, mend: str) -> ServerError:
    return ServerError("SETTINGS_INVALID", f"{what}.", mend)


def _does_not_fit(what: str) -> ServerError:
    return ServerError(
        "SETTINGS_DO_NOT_FIT", f"{what}.", "Take that line out, or make settings for this release with `bench tune`."
    )

"""The unit of work: the videos of one shard become one record file and its sidecar.

The same plan gives the same bytes on every machine and runner, at every attempt. The record file
is renamed into place first and its sidecar after it: a sidecar that matches the plan means that the
work is done. Therefore an extraction resumes after any kill, retries are harmless, and the counts
are exact.

Decoding is the costly part and is not repeated: if the plan has changed (other labels, more videos,
another order), the patches of the unchanged videos are copied from the present record file.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from features.contracts import record, shards
from features.contracts.documents import ExtractedVideo, PatchShard
from features.contracts.record import PatchRecord
from features.contracts.sharding import TRAIN, ShardKey
from features.contracts.shards import PATCHES
from features.contracts.videos import Video
from features.errors import ContractError, JobFailedError
from features.fingerprint import fingerprint
from features.front_end.front_end import FrontEnd
from features.sound.decoder_version import DecoderVersion, installed_decoder
from features.sound.outcome import WRITTEN, AudioError, Outcome
from features.sound.soundtrack import PatchSample
from features.storage import files
from pipelines.extraction.network_embeddings import embed_windows
from pipelines.runtime.decoder import DecoderProcess, decoder_process
from pipelines.runtime.failure import name_place
from pipelines.runtime.network import NetworkPlace, load_network
from pipelines.runtime.prefetch import prefetch
from pipelines.runtime.spool import PatchSpool

# Raise this number when a change of the code gives other records for the same plan. The padding of
# records is none: folders without it are kept, and `pipelines.index_features` adds it.
_CODE_VERSION = 1
# Rejects that every run retries: the cause may lie in the moment rather than in the file.
_TRANSIENT = frozenset({Outcome.NOT_FOUND, Outcome.PERMISSION_DENIED, Outcome.UNREADABLE})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all shards of a job share, and what decides their bytes.

    Attributes:
      front_end: samples to stored patches.
      seed: of the order within training shards.
      keep_partial: whether the good part of a truncated soundtrack is kept.
      patches_per_video: how many patches are drawn of each soundtrack; None for all.
      sampled_splits: the splits that patches are drawn in; None for all splits.
      network: makes embeddings of the patches; None to keep the patches.
    """

    front_end: FrontEnd
    seed: int
    keep_partial: bool
    patches_per_video: int | None = None
    sampled_splits: tuple[str, ...] | None = None
    network: NetworkPlace | None = None

    def for_split(self, split: str) -> "Settings":
        """The settings of one split, all patches of which are taken unless some are drawn."""
        if self.sampled_splits is None or split in self.sampled_splits:
            return self
        return dataclasses.replace(self, patches_per_video=None)

    def sample(self, video_id: str) -> PatchSample | None:
        """Choice of patches of a video; drawn from its id, independently of other videos."""
        if self.patches_per_video is None:
            return None
        name = [video_id, self.seed, self.patches_per_video]
        return PatchSample(self.patches_per_video, int(fingerprint(name), 16))


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a job works on its shards, without an influence on the patches of good files.

    Attributes:
      timeout_seconds: wall time limit of one soundtrack.
      only_rejects: retry the rejects of finished shards, whatever their reason.
      force: rebuild every shard, and reuse nothing.
      max_reject_fraction: share of the videos that may be rejected.
      forgotten: ids of the videos that are not decoded, and of which no patches are kept.
    """

    timeout_seconds: float = 900.0
    only_rejects: bool = False
    force: bool = False
    max_reject_fraction: float = 1.0
    forgotten: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Everything that decides the bytes of one shard."""

    key: ShardKey
    videos: tuple[Video, ...]  # in order of id
    settings: Settings

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the plan; a sidecar with the same one describes the same work."""
        document = dataclasses.asdict(self)
        document["settings"]["front_end"] = self.settings.front_end.to_json()
        del document["settings"]["sampled_splits"]  # says nothing about this split
        # The front end names the network; where it lies does not matter.
        del document["settings"]["network"]
        if self.settings.network is not None:
            document["runtime"] = str(self.settings.network.runtime)
        document["videos"] = [video.content() for video in self.videos]
        return fingerprint([_CODE_VERSION, document])

    @functools.cached_property
    def sources(self) -> Mapping[str, str]:
        """Id of a video -> fingerprint of everything that decides its patches."""
        return {video.id: _source_fingerprint(video, self.settings) for video in self.videos}


def _source_fingerprint(video: Video, settings: Settings) -> str:
    sample = settings.sample(video.id)
    parts = [video.uri, video.start, video.end, settings.front_end.fingerprint]
    runtime = [] if settings.network is None else [str(settings.network.runtime)]
    return fingerprint([*parts, settings.keep_partial, sample and sample.seed, *runtime])


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """A finished shard, and what this run spent on it.

    Attributes:
      sidecar: as on disk.
      decoder_seconds: id of a decoded video -> CPU seconds of the decoder. The time of a decoder
        that had to be killed is unknown and counts as 0.
      worker_seconds: CPU seconds of this worker; 0 for a shard that was kept.
    """

    sidecar: PatchShard
    decoder_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    worker_seconds: float = 0.0


def extract_shard(
    plan: ShardPlan, output: str, mode: Mode, listed_bytes: int | None = None
) -> ShardResult:
    """Extract a shard unless its sidecar says that the work is done.

    Args:
      plan: what to extract.
      output: the FEATURES folder.
      mode: how to work.
      listed_bytes: size of the record file in a listing, which may be older than an attempt at
        this shard; None if the listing does not have the file.
    """
    # Networks work on threads of their own.
    clock = time.thread_time if plan.settings.network is None else time.process_time
    start = clock()
    path = files.join(output, plan.key.path(PATCHES))
    present = None if mode.force else shards.find_patch_shard(path, listed_bytes)
    kept = {} if present is None else _keep_videos(plan, present, mode)
    is_planned = present is not None and present.plan == plan.fingerprint
    if present is not None and is_planned and len(kept) == len(plan.videos):
        updated = dataclasses.replace(present, videos=tuple(kept.values()))
        if updated != present:  # other origins
            shards.write_sidecar(path, updated)
        return ShardResult(updated)

    patch_bytes = plan.settings.front_end.patch_bytes
    with PatchSpool(patch_bytes) as spool:
        new = [video for video in plan.videos if video.id not in kept]
        extracted = _extract(new, plan, mode, spool)
        if present is not None and is_planned:
            retried = _replace_videos(present, kept, extracted)
            if _outcomes(retried) == _outcomes(present):  # then the records are the same
                if retried != present:
                    shards.write_sidecar(path, retried)
                return ShardResult(retried)
        extracted |= _copy_patches(kept, path, plan.settings.front_end, spool)
        # If the record file is not what its sidecar says, all videos are decoded.
        lost = [video for video in plan.videos if video.id not in extracted]
        extracted |= _extract(lost, plan, mode, spool)
        decoders = _decoders(extracted.values(), present)
        sidecar = _write_records(plan, extracted, decoders, path, spool)
    shards.write_sidecar(path, sidecar)
    decoder_seconds = {
        video_id: entry.cpu_seconds
        for video_id, entry in extracted.items()
        if entry.cpu_seconds is not None
    }
    return ShardResult(sidecar, decoder_seconds, clock() - start)


def forget_videos(
    key: ShardKey, output: str, settings: Settings, forgotten: frozenset[str]
) -> ShardResult:
    """Remove videos from a finished shard: it becomes what extraction makes of it without them.

    Nothing is decoded, and no data set is needed. The plan stays that of the sidecar, since
    extraction leaves the forgotten videos in the plan.

    Args:
      key: of the shard.
      output: the FEATURES folder, of patches or of embeddings.
      settings: of the folder, for the split; without a network.
      forgotten: ids of the videos; those of other shards are ignored.

    Raises:
      JobFailedError: the shard is damaged or incomplete.
    """
    start = time.process_time()
    path = files.join(output, key.path(PATCHES))
    try:
        present = shards.read_sidecar(path, PatchShard)
    except (FileNotFoundError, ContractError) as error:
        raise _damaged(path, str(error)) from error
    kept = {
        video.id: video
        for video in present.videos
        if video.id not in forgotten or video.outcome == Outcome.FORGOTTEN
    }
    if len(kept) == len(present.videos):
        return ShardResult(present)
    was_decoded = any(video.outcome != Outcome.FORGOTTEN for video in kept.values())
    decoders = present.decoders if was_decoded else ()
    with PatchSpool(settings.front_end.patch_bytes) as spool:
        extracted = _copy_patches(kept, path, settings.front_end, spool)
        if len(extracted) != len(kept):
            raise _damaged(path, "some records are missing")
        for video in present.videos:
            if video.id not in kept:
                extracted[video.id] = _forget(video, video.source)
        videos = tuple(
            Video(video.id, video.uri, None, None, extracted[video.id].labels, video.origins)
            for video in present.videos
        )
        plan = ShardPlan(key, videos, settings)
        # If this process dies before the sidecar is replaced, the removal can be repeated.
        sidecar = _write_records(plan, extracted, decoders, path, spool, keep_sidecar=True)
    sidecar = dataclasses.replace(sidecar, plan=present.plan)
    shards.write_sidecar(path, sidecar)
    return ShardResult(sidecar, worker_seconds=time.process_time() - start)


def _damaged(path: str, problem: str) -> JobFailedError:
    return JobFailedError(
        f"{path}: {problem}; run the command that made the folder again, which rebuilds this shard "
        "without the forgotten videos"
    )


def _forget(video: Video | ExtractedVideo, source: str) -> "_Extracted":
    forgotten = ExtractedVideo(
        id=video.id,
        uri=video.uri,
        outcome=Outcome.FORGOTTEN,
        detail="",
        num_patches=0,
        source=source,
        origins=video.origins,
    )
    return _Extracted(forgotten, places=())


@dataclasses.dataclass(frozen=True)
class _Extracted:
    """What became of a video, and where its patches are in the spool.

    Attributes:
      video: for the sidecar.
      places: (index of the patch in its soundtrack, index in the spool), rising.
      cpu_seconds: of the decoder; None if nothing was decoded.
      labels: of the records that the patches were copied from.
    """

    video: ExtractedVideo
    places: Sequence[tuple[int, int]]
    cpu_seconds: float | None = None
    labels: tuple[int, ...] = ()

    def rejected(self, error: AudioError) -> "_Extracted":
        """The same, after a network has refused the soundtrack."""
        video = dataclasses.replace(
            self.video, outcome=error.outcome, detail=error.detail, num_patches=0, drawn_from=None
        )
        return dataclasses.replace(self, video=video, places=())


def _keep_videos(plan: ShardPlan, present: PatchShard, mode: Mode) -> dict[str, ExtractedVideo]:
    """The videos of the plan, by id, whose outcome in the present sidecar is still valid."""
    origins = {video.id: video.origins for video in plan.videos}
    return {
        video.id: dataclasses.replace(video, origins=origins[video.id])
        for video in present.videos
        if plan.sources.get(video.id) == video.source and not _is_retried(video, mode)
    }


def _is_retried(video: ExtractedVideo, mode: Mode) -> bool:
    is_forgotten = video.id in mode.forgotten
    if is_forgotten or video.outcome == Outcome.FORGOTTEN:
        return is_forgotten != (video.outcome == Outcome.FORGOTTEN)
    if video.outcome in WRITTEN:
        return False
    if video.outcome == Outcome.TIMEOUT and (
        video.timeout_seconds is None or mode.timeout_seconds > video.timeout_seconds
    ):
        return True  # also if an older sidecar does not say which limit was exceeded
    return mode.only_rejects or video.outcome in _TRANSIENT


def _replace_videos(
    present: PatchShard, kept: Mapping[str, ExtractedVideo], extracted: Mapping[str, _Extracted]
) -> PatchShard:
    found = {**kept, **{name: entry.video for name, entry in extracted.items()}}
    return dataclasses.replace(present, videos=tuple(found[video.id] for video in present.videos))


def _outcomes(sidecar: PatchShard) -> list[Outcome]:
    return [video.outcome for video in sidecar.videos]


def _copy_patches(
    kept: Mapping[str, ExtractedVideo], path: str, front_end: FrontEnd, spool: PatchSpool
) -> dict[str, _Extracted]:
    """Copy the patches of the kept videos into the spool, as far as the record file is readable."""
    if not kept:
        return {}
    hop = front_end.patch_hop_seconds
    places: dict[str, dict[int, int]] = {video_id: {} for video_id in kept}
    labels: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(JobFailedError):
        for found in shards.read_records(path):
            if found.video_id in places:
                places[found.video_id][round(found.start_seconds / hop)] = len(spool)
                spool.append(found.patch)
                labels[found.video_id] = found.labels
    return {
        video_id: _Extracted(
            video, sorted(places[video_id].items()), labels=labels.get(video_id, ())
        )
        for video_id, video in kept.items()
        if len(places[video_id]) == video.num_patches
    }


def _decoders(
    extracted: Iterable[_Extracted], present: PatchShard | None
) -> tuple[DecoderVersion, ...]:
    """What the patches of a shard were decoded with; copied ones by those of the present shard."""
    is_decoded = [
        entry.cpu_seconds is not None
        for entry in extracted
        if entry.video.outcome != Outcome.FORGOTTEN
    ]
    before = () if present is None or all(is_decoded) else present.list_decoders()
    return tuple(sorted({*before, *([installed_decoder()] if any(is_decoded) else ())}))


def _write_records(
    plan: ShardPlan,
    extracted: Mapping[str, _Extracted],
    decoders: tuple[DecoderVersion, ...],
    path: str,
    spool: PatchSpool,
    *,
    keep_sidecar: bool = False,
) -> PatchShard:
    """Order the patches, write the record file, and return its sidecar."""
    order = [
        (video, index, place)
        for video in plan.videos
        for index, place in extracted[video.id].places
    ]
    if plan.key.split == TRAIN:
        order = [order[index] for index in _permutation(len(order), plan)]
    hop = plan.settings.front_end.patch_hop_seconds
    records = (
        PatchRecord(video.id, spool.read(place), index * hop, video.labels)
        for video, index, place in order
    )
    is_padded = plan.key.split == TRAIN
    record_bytes = _padded_record_bytes(plan, extracted) if is_padded else None
    record_file = shards.write_records(path, records, record_bytes, keep_sidecar=keep_sidecar)
    return PatchShard(
        plan=plan.fingerprint,
        key=plan.key,
        num_videos=len(plan.videos),
        num_patches=len(order),
        **dataclasses.asdict(record_file),
        decoders=decoders,
        videos=tuple(extracted[video.id].video for video in plan.videos),
    )


def _padded_record_bytes(plan: ShardPlan, extracted: Mapping[str, _Extracted]) -> int:
    """The length that holds every record of a shard: only ids and labels differ in length."""
    patch = bytes(plan.settings.front_end.patch_bytes)
    lengths = (
        len(record.encode(PatchRecord(video.id, patch, 0.0, video.labels)))
        for video in plan.videos
        if extracted[video.id].places
    )
    return max(lengths, default=0) + record.MIN_PADDING


def _extract(
    videos: Sequence[Video], plan: ShardPlan, mode: Mode, spool: PatchSpool
) -> dict[str, _Extracted]:
    """Decode soundtracks, and put their patches, or the embeddings of these, into the spool."""
    if not videos:
        return {}
    settings = plan.settings
    if settings.network is None:
        with decoder_process() as decoder:
            return {
                video.id: _decode(video, plan, mode, decoder, settings.front_end, spool)
                for video in videos
            }
    network = load_network(settings.network)
    extracted = {}
    # The next soundtrack is decoded while the network works.
    for video, decoded, windows in prefetch(_decode_windows(videos, plan, mode, network.front_end)):
        start = len(spool)
        indices = [index for index, _ in decoded.places]
        try:
            with _name_video(video):
                for embeddings in embed_windows(windows, indices, network, settings.front_end):
                    spool.append(embeddings)
        except AudioError as error:
            spool.truncate(start)
            extracted[video.id] = decoded.rejected(error)
            continue
        places = list(zip(indices, range(start, len(spool)), strict=True))
        extracted[video.id] = dataclasses.replace(decoded, places=places)
    return extracted


def _decode_windows(
    videos: Iterable[Video], plan: ShardPlan, mode: Mode, front_end: FrontEnd
) -> Iterator[tuple[Video, _Extracted, np.ndarray]]:
    """Decode each soundtrack to windows on local disk; a rejected soundtrack has none."""
    with decoder_process() as decoder:
        for video in videos:
            with PatchSpool(front_end.patch_bytes) as windows:
                decoded = _decode(video, plan, mode, decoder, front_end, windows)
                stored = windows.map(front_end.storage.dtype, front_end.patch_shape)
            yield video, decoded, stored


def _name_video(video: Video) -> contextlib.AbstractContextManager[None]:
    return name_place(f"video {video.id}, {video.uri}")


def _decode(
    video: Video,
    plan: ShardPlan,
    mode: Mode,
    decoder: DecoderProcess,
    front_end: FrontEnd,
    spool: PatchSpool,
) -> _Extracted:
    """Decode one soundtrack into the spool; a rejected soundtrack leaves nothing there."""
    settings, start = plan.settings, len(spool)
    if video.id in mode.forgotten:
        return _forget(video, plan.sources[video.id])
    outcome, detail = Outcome.OK, ""
    indices: list[int] = []
    cpu_before = decoder.cpu_seconds
    try:
        with _name_video(video):
            for found in decoder.decode(
                video.uri,
                front_end,
                spool,
                start_seconds=video.start or 0.0,
                end_seconds=video.end,
                sample=settings.sample(video.id),
                timeout_seconds=mode.timeout_seconds,
            ):
                indices += found.tolist()
    except AudioError as error:
        outcome, detail = error.outcome, error.detail
        if outcome == Outcome.TRUNCATED and settings.keep_partial and len(spool) > start:
            outcome = Outcome.OK_PARTIAL
    if outcome == Outcome.OK and len(spool) == start:
        outcome = Outcome.TOO_SHORT
        detail = f"shorter than one patch of {front_end.patch_seconds} s"
    if outcome not in WRITTEN:
        spool.truncate(start)
    places = list(zip(indices, range(start, len(spool)), strict=False))
    extracted = ExtractedVideo(
        id=video.id,
        uri=video.uri,
        outcome=outcome,
        detail=detail,
        num_patches=len(places),
        drawn_from=decoder.drawn_from if outcome in WRITTEN else None,
        source=plan.sources[video.id],
        timeout_seconds=mode.timeout_seconds if outcome == Outcome.TIMEOUT else None,
        origins=video.origins,
    )
    return _Extracted(extracted, places, decoder.cpu_seconds - cpu_before)


def _permutation(size: int, plan: ShardPlan) -> np.ndarray:
    """A permutation drawn from the shard's name and the seed.

    It sorts raw output of the bit generator, which NumPy keeps stable over its versions;
    `Generator.permutation` is not stable.
    """
    seed = int(fingerprint([dataclasses.asdict(plan.key), plan.settings.seed]), 16)
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")

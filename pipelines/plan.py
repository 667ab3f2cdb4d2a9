"""Predict the cost of extracting and scoring a corpus, and of training, from a measured sample.

python -m pipelines.plan --dataset dataset --max-cost 50 && python -m pipelines.extract_features ..
python -m pipelines.plan --dataset dataset --run run --train resnet50 --steps 5000000
python -m pipelines.plan --actual features
"""

import argparse
import dataclasses
import datetime
import tempfile
from collections.abc import Iterator, Sequence

from features.contracts import folders
from features.contracts.documents import Dataset, Features, Scores
from features.contracts.videos import VIDEO_FILES
from features.errors import OK, InputError, JobFailedError, run_command
from features.front_end.front_end import FrontEnd, PatchStorage
from features.sound.waveform import RESAMPLER
from features.storage import files
from pipelines.cost import prediction, report, sample
from pipelines.cost.prediction import PlannedJob, Prediction
from pipelines.cost.prices import Prices, read_prices
from pipelines.cost.request import NetworkRequest, add_network_flags, read_request
from pipelines.extraction.flags import add_sample_flags, choose_sampled_splits
from pipelines.extraction.patches import Mode, Settings
from pipelines.runtime import process_pool

_DESCRIPTION = """\
Extract a sample of a corpus on all cores of this machine, into a folder that is
deleted afterwards, and predict the cost of the whole corpus: CPU hours, wall
time, output and dollars, with 90 % intervals. --run measures a network on this
machine and adds the cost of scoring a split; --score and --train take speeds
of scoring and training from a table. No job is started. The exit code is 1 if
the dollars of all of it may exceed --max-cost, so that a command after && does
not start.
"""
_EPILOG = f"""\
A core of this machine counts as a virtual CPU of the platform. The prediction
is kept as {Prediction.FILE} in the data set; --actual then prints it beside the
real cost of the extraction, or of the scoring.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.plan",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="DIR", help="folder made by pipelines.prepare_dataset")
    source.add_argument(
        "--manifest",
        metavar="FILE",
        help="manifest with the columns id, uri, labels; no data set is needed",
    )
    source.add_argument(
        "--actual",
        metavar="DIR",
        help="folder made by pipelines.extract_features or evaluation.score_videos: print the "
        "prediction and the real cost",
    )
    add(
        "--workers",
        metavar="N",
        type=int,
        help="processes, cores or GPUs of the jobs, for wall times; default: cores here",
    )
    add("--sample", metavar="K", type=int, default=64, help="videos to measure; default: 64")
    add("--seed", type=int, default=0, help="seed of the sample; default: 0")
    add_sample_flags(parser)
    add("--prices", metavar="FILE", help="table of prices; default: pipelines/cost/prices.json")
    add("--platform", metavar="NAME", help="for --max-cost; default: the most expensive one")
    add(
        "--max-cost",
        metavar="DOLLARS",
        type=float,
        help="fail if the upper end of the cost of all computing is above this",
    )
    add(
        "--scale", choices=("paper",), help="also predict for the paper's corpus, same mix of files"
    )
    add_network_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.actual is not None:
        print("\n".join(_compare(files.absolute(args.actual))))
        return OK
    for flag, value in (("--sample", args.sample), ("--workers", args.workers or 1)):
        if value < 1:
            raise InputError(f"{flag}: received {value}; give 1 or more")
    prices = read_prices(args.prices)
    if args.platform is not None and args.platform not in prices.platforms:
        known = ", ".join(prices.platforms)
        raise InputError(f"--platform: received {args.platform!r}; the table has {known}")
    predicted = _predict(args, prices, read_request(args, prices))
    for line in report.describe_old_prices(prices, datetime.date.today().year):
        print(line)
    if args.max_cost is not None:
        _require_affordable(predicted, args.max_cost, args.platform, prices)
    return OK


def _predict(args: argparse.Namespace, prices: Prices, request: NetworkRequest) -> Prediction:
    """Measure, print the prediction, and keep it in the data set."""
    front_end = FrontEnd(resampler=RESAMPLER, storage=PatchStorage())
    splits = choose_sampled_splits(args)
    settings = Settings(front_end, 0, False, args.patches_per_video, splits)
    with tempfile.TemporaryDirectory() as temporary:
        source = files.absolute(args.dataset or _prepare(args.manifest, temporary))
        dataset = folders.read_document(source, Dataset)
        request.check_split(dataset)
        num_shards = {name: split.num_shards for name, split in dataset.splits.items()}
        video_files = files.list_files(source, VIDEO_FILES)
        corpus = sample.read_corpus(video_files, num_shards, settings, request.split)
    if not corpus.videos:
        raise InputError(f"{source}: none of the files of {corpus.num_videos} videos exists")
    cores = process_pool.default_workers()
    measured = sample.measure(
        corpus, settings, Mode(), num_sampled=args.sample, num_workers=cores, seed=args.seed
    )
    job = PlannedJob(
        made_by=folders.made_by(),
        dataset_fingerprint=dataset.fingerprint,
        patches_per_video=args.patches_per_video,
        sampled_splits=splits,
        num_videos=corpus.num_videos,
        num_workers=args.workers or cores,
        num_shards=sum(sum(groups.values()) for groups in num_shards.values()),
    )
    scoring, training = request.predict(corpus, measured, dataset, job.num_workers)
    predicted = dataclasses.replace(
        prediction.predict(measured, job), scoring=scoring, training=training
    )
    if args.dataset is not None:
        folders.write_document(source, predicted)
    print("\n".join(report.describe_sample(corpus, measured)))
    print("\n".join(report.describe_prediction(predicted, prices)))
    if args.scale == "paper":
        print("\n".join(report.describe_paper_scale(predicted, prices)))
    return predicted


def _prepare(manifest: str, folder: str) -> str:
    from pipelines import prepare_dataset  # imported only if needed: it imports TensorFlow

    prepare_dataset.main(["--manifest", manifest, "--output", folder])
    return folder


def _require_affordable(
    predicted: Prediction, max_cost: float, platform: str | None, prices: Prices
) -> None:
    """Make sure that the upper end of the cost of all jobs is within the budget.

    Raises:
      JobFailedError: it is not.
    """
    rates = {name: row.dollars_per_core_hour for name, row in prices.platforms.items()}
    name = platform or max(rates, key=rates.__getitem__)
    dollars = report.total_dollars(predicted, prices, name)[2]
    if dollars > max_cost:
        jobs = ["extraction", *(job.speed.job for job in predicted.network_jobs)]
        raise JobFailedError(
            f"--max-cost {max_cost:g}: {' and '.join(jobs)} on {name} may take "
            f"{report.format_number(dollars)} dollars (the upper end of the interval); allow "
            "more, extract a --subset, or use --patches-per-video"
        )


def _compare(folder: str) -> Iterator[str]:
    """Lines that compare a prediction with the extraction or the scoring that followed.

    Raises:
      InputError: there is no prediction, or it is of another data set or network.
    """
    scores = folders.find_document(folder, Scores)
    if scores is not None:
        return _compare_scoring(folder, scores)
    features = folders.read_document(folder, Features)
    predicted = _find_prediction(features.dataset)
    for field in ("dataset_fingerprint", "patches_per_video", "sampled_splits"):
        folders.require_equal(
            field,
            expected=getattr(predicted, field),
            received=getattr(features, field),
            where=folder,
            cure="predict again with the flags of the extraction",
        )
    if features.work is None:
        raise InputError(f"{folder} does not record its cost: an earlier version made it")
    return report.describe_comparison(predicted, features, features.work)


def _compare_scoring(folder: str, scores: Scores) -> Iterator[str]:
    """Lines that compare a prediction with the scoring that followed.

    Raises:
      InputError: there is no prediction of the scoring of these videos by this network.
    """
    if scores.work is None or scores.dataset is None or scores.runtime is None:
        raise InputError(
            f"{folder} does not record its cost: tables have none, and earlier versions wrote none"
        )
    predicted = _find_prediction(scores.dataset)
    scoring = predicted.scoring
    if scoring is None or not scoring.is_measured or not scoring.is_on_cpu:
        raise InputError(
            f"{scores.dataset}/{Prediction.FILE} predicts no scoring from a measurement on cores; "
            f"run `{Prediction.MAKER} --dataset {scores.dataset} --run {scores.run or 'RUN'}`"
        )
    for field, expected, received in (
        ("dataset_fingerprint", predicted.dataset_fingerprint, scores.dataset_fingerprint),
        ("model_fingerprint", scoring.model_fingerprint, scores.model_fingerprint),
        ("precision", scoring.speed.precision, scores.runtime.precision),
        ("split", scoring.split, scores.split),
        ("subset", None, scores.subset),
    ):
        folders.require_equal(
            field,
            expected=expected,
            received=received,
            where=folder,
            cure="predict again with the flags of the scoring",
        )
    return report.describe_scoring_comparison(predicted, scoring, scores, scores.work)


def _find_prediction(dataset: str) -> Prediction:
    """Read the prediction of a data set.

    Raises:
      InputError: there is none.
    """
    predicted = folders.find_document(dataset, Prediction)
    if predicted is None:
        raise InputError(
            f"{dataset} has no {Prediction.FILE}; run "
            f"`{Prediction.MAKER} --dataset {dataset}` before the job"
        )
    return predicted


if __name__ == "__main__":
    run_command(main)

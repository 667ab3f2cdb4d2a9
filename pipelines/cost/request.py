"""The flags of `plan` for scoring and training, and what they ask for."""

import argparse
import dataclasses
import typing
from pathlib import Path

from features.contracts import sharding
from features.contracts.documents import Dataset, Precision
from features.contracts.speeds import CPU, NetworkJob, Speed, Speeds
from features.errors import InputError
from features.storage import files
from pipelines.cost.network_speed import MeasuredNetwork, measure_network
from pipelines.cost.networks import (
    NetworkPrediction,
    ScoredSplit,
    find_speed,
    predict_scoring,
    predict_training,
)
from pipelines.cost.prices import Prices
from pipelines.cost.sample import Corpus, Sample

_DEFAULT = Path(__file__).with_name(Speeds.FILE)
_BATCH_SIZE = 128  # of the recipes of the paper's networks


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """Which costs of networks are asked for.

    Attributes:
      split: to score; None for no scoring.
      scoring: the network that scores it, measured here, or a speed of the table.
      training: speed of training; None for no training.
      num_training_patches: mini-batches times their size.
    """

    split: str | None = None
    scoring: MeasuredNetwork | Speed | None = None
    training: Speed | None = None
    num_training_patches: int = 0

    def check_split(self, dataset: Dataset) -> None:
        """Make sure that the data set has the split to score.

        Raises:
          InputError: it has not.
        """
        if self.split is not None and self.split not in dataset.splits:
            known = ", ".join(dataset.splits)
            raise InputError(f"--split: received {self.split!r}; the data set has {known}")

    def predict(
        self, corpus: Corpus, sample: Sample, dataset: Dataset, num_workers: int
    ) -> tuple[NetworkPrediction | None, NetworkPrediction | None]:
        """Predict scoring and training; None for what is not asked for."""
        scoring = training = None
        if self.scoring is not None and self.split is not None:
            split = ScoredSplit(
                name=self.split,
                kinds=corpus.scored,
                num_videos=sum(len(corpus.videos[kind]) for kind in corpus.scored),
                num_shards=sum(dataset.splits[self.split].num_shards.values()),
                num_labels=dataset.vocabulary.num_labels,
            )
            scoring = predict_scoring(sample, split, self.scoring, num_workers)
        if self.training is not None:
            training = predict_training(
                self.training, self.num_training_patches, sample.bytes_per_patch, num_workers
            )
        return scoring, training


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for scoring and training."""
    scoring = parser.add_argument_group("scoring")
    network = scoring.add_mutually_exclusive_group()
    network.add_argument(
        "--run", metavar="RUN", help="also predict scoring by this network, which is measured here"
    )
    network.add_argument(
        "--score", metavar="NETWORK", help="also predict scoring by a network of the table"
    )
    scoring.add_argument(
        "--split",
        default=sharding.EVALUATION,
        help=f"split to score; default: {sharding.EVALUATION}",
    )
    scoring.add_argument(
        "--precision",
        choices=typing.get_args(Precision),
        default="float32",
        help="of the network that scores; default: float32",
    )
    scoring.add_argument(
        "--score-device", metavar="NAME", default=CPU, help="row of the table; default: cpu"
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--train", metavar="NETWORK", help="also predict training a network of the table"
    )
    training.add_argument("--steps", metavar="N", type=int, help="mini-batches of the training")
    training.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=_BATCH_SIZE,
        help=f"patches of a mini-batch; default: {_BATCH_SIZE}",
    )
    training.add_argument(
        "--train-precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the training; default: float32",
    )
    training.add_argument(
        "--train-device", metavar="NAME", default=CPU, help="row of the table; default: cpu"
    )
    parser.add_argument(
        "--speeds",
        metavar="FILE",
        help="table of speeds; default: pipelines/cost/speeds.json",
    )
    parser.add_argument(
        "--width",
        type=float,
        default=1.0,
        help="of the networks of the table; default: 1, as in the paper",
    )


def read_request(args: argparse.Namespace, prices: Prices) -> NetworkRequest:
    """Check the flags, look up speeds, and measure the network of `--run`.

    Raises:
      InputError: a flag, a row of the table or a price is missing, or the run has no network.
    """
    if args.train is not None and (args.steps is None or args.steps < 1 or args.batch_size < 1):
        raise InputError("--train: give --steps and --batch-size, each 1 or more")
    path = args.speeds or str(_DEFAULT)
    speeds = _read_speeds(path)
    scoring: MeasuredNetwork | Speed | None = None
    training = None
    if args.train is not None:
        training = find_speed(
            speeds,
            NetworkJob(
                job="training",
                network=args.train,
                width=args.width,
                precision=args.train_precision,
                device=args.train_device,
            ),
            path,
        )
        _require_price(training, prices)
    if args.score is not None:
        scoring = find_speed(
            speeds,
            NetworkJob(
                job="scoring",
                network=args.score,
                width=args.width,
                precision=args.precision,
                device=args.score_device,
            ),
            path,
        )
        _require_price(scoring, prices)
    if args.run is not None:  # last, since it takes a while
        scoring = measure_network(files.absolute(args.run), args.precision)
        _require_price(scoring.speed, prices)
    return NetworkRequest(
        split=args.split if scoring is not None else None,
        scoring=scoring,
        training=training,
        num_training_patches=(args.steps or 0) * args.batch_size,
    )


def _read_speeds(path: str) -> Speeds:
    try:
        return Speeds.from_json(files.read_bytes(path), path)
    except FileNotFoundError:
        raise InputError(f"--speeds: there is no file {path}") from None


def _require_price(speed: Speed, prices: Prices) -> None:
    if speed.device != CPU:
        prices.require_gpu(speed.device)

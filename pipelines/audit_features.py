"""FEATURES -> `audit.json`: is every record whole, every split apart, every shard shuffled?

python -m pipelines.audit_features --features features
python -m pipelines.audit_features --features features --repair
"""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, AsList, AsSingleton

from features.contracts import folders, labels, sharding
from features.errors import FAILED, OK, run_command
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.audit import (
    repair,
    shuffle_tests,
    stages,
    summary,
)
from pipelines.audit.duplicates import FindCopies
from pipelines.runtime import launch

_DESCRIPTION = """\
Read every record of a folder of features and hold it against its sidecar; look
for soundtracks that occur in two splits, in another encoding too; certify that
the training shards are shuffled. Writes audit.json into the folder. The job
fails where something is damaged, leaked or not shuffled.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("pipelines.audit_features", "--features FEATURES", _DESCRIPTION)
    add = parser.add_argument
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add(
        "--repair",
        action="store_true",
        help="remove the damaged shards, extract them again, and audit once more",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    folder = files.absolute(args.features)
    features = folders.read_root(folder, folders.FEATURES)
    document = _audit(folder, features, options)
    print(summary.describe(document, features, args.features))
    if args.repair and document["damages"]:
        shards = stages.damaged_shards(document)
        repair.require_same_plans(features, folder)
        repair.remove_shards(folder, shards)
        _, runner_flags = _parser().parse_known_args(argv)
        module, *flags = repair.extraction_command(features, folder)
        # Only where it is needed: extract_embeddings imports TensorFlow.
        importlib.import_module(module).main([*flags, *runner_flags])
        repaired = folders.read_root(folder, folders.FEATURES)
        document = _audit(folder, repaired, options)
        print(summary.describe(document, repaired, args.features))
        print(summary.describe_repair(features, repaired))
    return OK if document["clean"] else FAILED


def _audit(folder: str, features: dict[str, Any], options: PipelineOptions) -> dict[str, Any]:
    """Run the job; returns `audit.json`."""
    vocabulary = labels.read_vocabulary(folder)
    folders.require_equal(
        "vocabulary fingerprint",
        expected=features["vocabulary"]["fingerprint"],
        received=vocabulary.fingerprint,
        where=files.join(folder, labels.FILE_NAME),
        cure="run `python -m pipelines.extract_features` again: it copies the file anew",
    )
    rules = stages.ShardRules(FrontEnd.from_json(features["front_end"]), len(vocabulary))
    keys = [
        key
        for split, counts in features["splits"].items()
        for key in sharding.keys(split, counts["num_shards"])
    ]
    made = {
        "made_by": folders.made_by(),
        "features_fingerprint": features["fingerprint"],
        "front_end_fingerprint": features["front_end_fingerprint"],
    }

    def clear() -> None:
        files.delete(files.join(folder, stages.AUDIT))

    def build(pipeline: beam.Pipeline) -> None:
        findings = (
            pipeline
            | "Shards" >> beam.Create(keys)
            | "Spread" >> beam.Reshuffle()
            | "ExamineShard" >> beam.Map(stages.examine_shard, folder, rules)
        )
        strays = pipeline | "Strays" >> beam.Create(stages.find_strays(folder, keys))
        damages = findings | "DamagesOf" >> beam.FlatMap(stages.damages_of)
        account = (
            findings
            | "Account" >> beam.FlatMap(stages.account_of)
            | "SumAccount" >> beam.CombinePerKey(sum)
        )
        label_videos = (
            findings
            | "LabelsOf" >> beam.FlatMap(stages.labels_of)
            | "SumLabels" >> beam.CombinePerKey(stages.add_arrays)
        )
        evidence = (
            findings
            | "EvidenceOf" >> beam.FlatMap(stages.evidence_of)
            | "AddEvidence" >> beam.CombinePerKey(shuffle_tests.add)
        )
        copies = (
            findings
            | "PrintsOf" >> beam.FlatMap(stages.prints_of)
            | "FindCopies" >> FindCopies(features["num_videos"])
        )
        copy_counts = (
            copies | "Kinds" >> beam.Map(stages.kind_of) | beam.combiners.Count.PerElement()
        )
        leaks = (
            copies
            | "Leaks" >> beam.FlatMap(stages.leak_of)
            | "FirstLeaks" >> beam.CombineGlobally(stages.first_leaks)
        )
        _ = (
            pipeline
            | "Made" >> beam.Create([made])
            | "Finish"
            >> beam.Map(
                stages.finish,
                features=features,
                damages=AsList((damages, strays) | "AllDamages" >> beam.Flatten()),
                account=AsDict(account),
                label_videos=AsDict(label_videos),
                evidence=AsDict(evidence),
                copy_counts=AsDict(copy_counts),
                leaks=AsSingleton(leaks),
                folder=folder,
            )
        )

    launch.run(build, options, folder, clear=clear)
    document = folders.find_root(folder, stages.AUDIT)
    assert document is not None
    return document


if __name__ == "__main__":
    run_command(main)

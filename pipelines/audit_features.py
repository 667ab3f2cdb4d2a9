"""FEATURES -> `audit.json`: valid records, no soundtrack in two splits, shuffled training shards.

python -m pipelines.audit_features --features features
python -m pipelines.audit_features --features features --repair
"""

import argparse
import contextlib
import dataclasses
import importlib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from features.contracts import folders, labels
from features.contracts.documents import Features
from features.errors import FAILED, OK, InputError, run_command
from features.storage import files
from pipelines.audit import repair, summary
from pipelines.audit.document import Audit
from pipelines.audit.shard import ShardRules
from pipelines.audit.stages import AuditFolder
from pipelines.extraction.patches import Settings
from pipelines.runtime import launch

_DESCRIPTION = """\
Read every record of a folder of features and compare it with its sidecar; look
for soundtracks that occur in two splits, also in another encoding; test that
the training shards are shuffled. Writes audit.json into the folder. The exit
code is 1 if something is damaged, leaked or not shuffled.
"""


def _parser() -> argparse.ArgumentParser:
    parser = launch.parser("pipelines.audit_features", "--features FEATURES", _DESCRIPTION)
    add = parser.add_argument
    add("--features", required=True, help="folder made by pipelines.extract_features")
    add(
        "--repair",
        action="store_true",
        help="remove the damaged shards, extract them again, and repeat the audit",
    )
    add(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        help="of --repair: time limit of one soundtrack, as in pipelines.extract_features; "
        "default: that of the command that made the folder",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args, options = launch.parse(_parser(), argv)
    if args.repair and args.no_wait:
        raise InputError("--no-wait: --repair extracts what the audit finds; leave out one of them")
    folder = files.absolute(args.features)
    with contextlib.ExitStack() as stack:
        if args.repair and not args.dry_run:
            # Else a job that begins after the audit would lose the shards that it has made.
            stack.enter_context(launch.hold_lease(folder, options))
        features = folders.read_document(folder, Features)
        audit = _audit(folder, features, options)
        print(summary.describe(audit, features, args.features, args.timeout_seconds))
        if args.repair and audit.damages:
            _, runner_flags = _parser().parse_known_args(argv)
            repaired = _repair(folder, features, audit, args.timeout_seconds, runner_flags)
            audit = _audit(folder, repaired, options)
            print(summary.describe(audit, repaired, args.features, args.timeout_seconds))
            print(summary.describe_repair(features, repaired))
    return OK if audit.clean else FAILED


def _audit(folder: str, features: Features, options: PipelineOptions) -> Audit:
    """Run the job; returns `audit.json`."""
    vocabulary = labels.read_vocabulary(folder)
    folders.require_equal(
        "vocabulary fingerprint",
        expected=features.vocabulary.fingerprint,
        received=vocabulary.fingerprint,
        where=files.join(folder, labels.FILE_NAME),
        cure="run `python -m pipelines.extract_features` again: it copies the file again",
    )
    settings = Settings(
        features.front_end,
        features.seed,
        features.keep_partial,
        features.patches_per_video,
        features.sampled_splits,
    )
    rules = ShardRules(settings, len(vocabulary))
    audit = AuditFolder(folder, features, rules, folders.made_by())
    launch.run(
        lambda pipeline: pipeline | audit,
        options,
        folder,
        clear=lambda: files.delete(files.join(folder, Audit.FILE)),
    )
    return folders.read_document(folder, Audit)


def _repair(
    folder: str,
    features: Features,
    audit: Audit,
    timeout_seconds: float | None,
    runner_flags: Sequence[str],
) -> Features:
    """Extract the damaged shards again; returns the new `features.json`."""
    damaged = repair.damaged_shards(audit)
    repair.require_same_plans(features, folder)
    repair.remove_shards(folder, damaged)
    module, *flags = repair.extraction_command(features, folder, timeout_seconds)
    # By its name, because the folder decides which of two commands made it.
    importlib.import_module(module).main([*flags, *runner_flags])
    # The command that made the folder is still the recorded one, not this audit.
    repaired = folders.read_document(folder, Features)
    repaired = dataclasses.replace(repaired, made_by=features.made_by)
    folders.write_document(folder, repaired)
    return repaired


if __name__ == "__main__":
    run_command(main)

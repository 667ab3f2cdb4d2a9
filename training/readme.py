"""REPORT -> README of an export: the metrics of an evaluation, and the licence.

python -m training.readme run --report report --licence apache-2.0
"""

import argparse
import re
from collections.abc import Sequence

from features.contracts import folders
from features.contracts.documents import Metrics
from features.contracts.export import find_export, fingerprint_weights, read_exported_recipe
from features.errors import OK, InputError, run_command
from features.storage import files, tensorflow_paths
from training.model_card import README, Measured, update_readme

_DESCRIPTION = """\
Write the metrics of an evaluation and the licence into the README.md of an
export. The fields `license` and `model-index` and the section "Metrics" are
replaced; all else stays as it is, also what you have written there.
"""
# Identifiers of licences on Hugging Face: apache-2.0, cc-by-4.0, ...
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def read_metrics(report: str, export: str) -> Measured:
    """Read the metrics of a REPORT.

    Raises:
      ContractError: they are not of the network of this export.
    """
    metrics = folders.read_document(report, Metrics)
    folders.require_equal(
        "fingerprint of the model",
        expected=fingerprint_weights(export),
        received=metrics.fingerprints.get("model"),
        where=report,
        cure="give the report of the scores of this network",
    )
    videos = f"{metrics.num_videos:,} videos of the {metrics.set} split"
    values = {
        "mean average precision": metrics.mean_ap,
        "AUC": metrics.mean_auc,
        "d-prime": metrics.d_prime,
        "1-best accuracy": metrics.accuracy_1best,
    }
    return Measured(
        videos if metrics.subset is None else f"{videos}, subset {metrics.subset}",
        {name: value for name, value in values.items() if value is not None},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.readme",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="folder made by training.train, or a copy of its export")
    add("--report", help="folder made by evaluation.evaluate of the scores of this network")
    add("--licence", metavar="ID", help="as Hugging Face names it, such as apache-2.0")
    args = parser.parse_args(argv)
    if args.report is None and args.licence is None:
        raise InputError("nothing to write: give --report REPORT, --licence ID or both")
    if args.licence is not None and not _LICENCE.fullmatch(args.licence):
        raise InputError(
            f"--licence: received {args.licence!r}; give an identifier of Hugging Face in lower "
            "case, such as apache-2.0 or cc-by-4.0"
        )
    run = files.absolute(args.run)
    tensorflow_paths.require_opens("RUN", run)
    export = find_export(run)
    path = files.join(export, README)
    try:
        readme = files.read_bytes(path).decode()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; an export of training.train has it") from error
    measured = None if args.report is None else read_metrics(files.absolute(args.report), export)
    name = read_exported_recipe(export)["name"]
    try:
        updated = update_readme(readme, name, measured, args.licence)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    files.write_bytes(path, updated.encode())
    print(f"wrote {path}")
    return OK


if __name__ == "__main__":
    run_command(main)

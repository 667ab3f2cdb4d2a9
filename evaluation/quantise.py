"""RUN + FEATURES -> RUN: an int8 network for `--precision int8`, calibrated and checked.

python -m evaluation.quantise --run run --features features
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring import calibration
from features.contracts import folders, labels
from features.contracts.documents import Features, Quantisation
from features.contracts.export import (
    QUANTISED,
    QUANTISED_GRAPH,
    find_export,
    fingerprint_weights,
    read_exported_vocabulary,
    read_front_end,
)
from features.contracts.sharding import TRAIN, VALIDATION
from features.errors import OK, InputError, JobFailedError, run_command
from features.front_end.front_end import FrontEnd
from features.storage import files
from pipelines.runtime import inference

_DESCRIPTION = """\
Make an int8 network of a trained one, for --precision int8. Scales are
calibrated on patches of the training split. The mAP of both networks is then
measured on videos of the validation split, and nothing is written if int8
loses more than --max-map-loss. Needs OpenVINO and NNCF:
pip install openvino nncf
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.quantise",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--run", required=True, help="folder made by training.train, or a copy of its export")
    add("--features", required=True, help="folder with patches of the same front end and labels")
    add(
        "--patches",
        metavar="N",
        type=int,
        default=512,
        help="training patches to calibrate on; default: 512",
    )
    add(
        "--validation-patches",
        metavar="N",
        type=int,
        default=16_384,
        help="at most N validation patches for the check; default: 16384",
    )
    add("--seed", type=int, default=0, help="of the draw of patches; default: 0")
    add(
        "--max-map-loss",
        metavar="LOSS",
        type=float,
        default=0.005,
        help="largest loss of mAP against float32; default: 0.005",
    )
    return parser


def _check(export: str, source: str) -> tuple[Features, FrontEnd]:
    """Read the features, and require that the network takes their patches and labels.

    Raises:
      InputError: it does not, a split has no patches, or a package is missing.
    """
    features = folders.read_document(source, Features)
    front_end, vocabulary = read_front_end(export), read_exported_vocabulary(export)
    cure = "give the features that the network was trained on"
    folders.require_equal(
        "front_end_fingerprint",
        expected=front_end.fingerprint,
        received=features.front_end_fingerprint,
        where=source,
        cure=cure,
    )
    folders.require_equal(
        "vocabulary fingerprint",
        expected=vocabulary.fingerprint,
        received=labels.read_vocabulary(source).prefix(len(vocabulary)).fingerprint,
        where=source,
        cure=cure,
    )
    for split in (TRAIN, VALIDATION):
        if split not in features.splits or not features.splits[split].num_patches:
            raise InputError(f"--features {source} has no patches in the {split} split")
    inference.require_installed("nncf")
    return features, front_end


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    if min(args.patches, args.validation_patches) < 1:
        raise InputError("--patches, --validation-patches: give 1 or more")
    export, source = find_export(files.absolute(args.run)), files.absolute(args.features)
    (plain,) = inference.candidates("openvino", "float32")
    features, front_end = _check(export, source)

    def draw(split: str, limit: int) -> list:
        num_shards = features.splits[split].num_shards
        return calibration.draw_records(source, split, num_shards, limit, args.seed)

    train, validation = draw(TRAIN, args.patches), draw(VALIDATION, args.validation_patches)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        calibration.quantise(export, calibration.patches_of(train, front_end), folder)
        int8 = dataclasses.replace(plain, precision="int8")
        networks = (
            inference.load(export, "saved_model", plain),
            inference.load(str(folder / QUANTISED_GRAPH), "openvino", int8),
        )
        before, after = (
            calibration.mean_average_precision(network, validation, front_end)
            for network in networks
        )
        found = f"mAP {before:.4f} in float32, {after:.4f} in int8 on {len(validation)} patches"
        if not before - after <= args.max_map_loss:  # also NaN
            raise JobFailedError(
                f"{found}: the loss is above --max-map-loss {args.max_map_loss:g}, and nothing was "
                "written; give more --patches, or score with --precision float32 or bfloat16"
            )
        # Until all files are there, the folder has no int8 network: never a mixture of two.
        files.delete(files.join(export, QUANTISED, Quantisation.FILE))
        for file in sorted(folder.iterdir()):
            files.write_bytes(files.join(export, QUANTISED, file.name), file.read_bytes())
    document = Quantisation(
        made_by=folders.made_by(),
        model_fingerprint=fingerprint_weights(export),
        features=source,
        features_fingerprint=features.splits[TRAIN].fingerprint,
        seed=args.seed,
        num_patches=len(train),
        num_validation_patches=len(validation),
        max_map_loss=args.max_map_loss,
        map_float32=before,
        map_int8=after,
    )
    folders.write_document(files.join(export, QUANTISED), document)
    print(f"{found}\nwrote {files.join(export, QUANTISED)}")
    return OK


if __name__ == "__main__":
    run_command(main)

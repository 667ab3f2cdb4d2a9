"""Scoring: CPU time of a patch by runtime and precision, and of the job over the bare network.

Each network has 3,087 labels and untrained weights, whose values do not matter to its speed. All
runtimes score the same patches by turns, each in a process of its own with one thread, in calls of
the size that the job has. `float32_over_bfloat16` and `float32_over_int8` are the CPU time of
ResNet-50 in TensorFlow and float32 over that in OpenVINO; null where the processor has no
instructions for the precision.

`job_over_runtime` is the CPU time of `evaluation.score_videos` on features, over that of the same
network on the same patches in memory. Both run in a process that has scored before.

`map_difference_bfloat16` and `map_difference_int8` are the mAP of the evaluation split in float32
less that of the precision, of a ResNet-50 at a quarter of its width that is trained here on the
clips of three folds and evaluated on those of the fourth. They are null without a folder
`data/sounds` in any folder beside this repository. Of your own network and features they are by

    python -m tests.benchmarks.scoring --quick --run demo/resnet50/run --features demo/features

--quick measures ResNet-50 alone, without the scaling over threads and processes, and trains less.
"""

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.scoring import calibration
from features.contracts import folders
from features.contracts.documents import Features, InferenceRuntime, Precision
from features.contracts.export import FOLDER, QUANTISED_GRAPH, SCORES, find_export, read_front_end
from features.contracts.sharding import EVALUATION, TRAIN
from pipelines.runtime import inference
from tests.benchmarks import job, steps
from tests.benchmarks.measurement import Lane, make_table, median_of, report, require_possible
from tests.benchmarks.soundtracks import KINDS, write_soundtrack

NETWORKS = ("resnet50", "fully_connected", "alexnet", "vgg", "inception_v3", "small")
NUM_PATCHES, CALIBRATION_PATCHES = 128, 32
VIDEO_MINUTES, NUM_VIDEOS = 1, 5
PATCHES_PER_HOUR = 3_750
CORPUS_HOURS, CORPUS_VIDEOS = 5.24e6, 70e6  # of the paper, section 2
FLAGS = {"bfloat16": ("avx512_bf16", "amx_bf16"), "int8": ("avx512_vnni", "avx_vnni")}
# Clips of 67 labels, in four folds that no recording straddles.
SOUNDS = sorted(Path(__file__).parents[3].glob("*/data/sounds/clips.csv"))
FOLDS = ("--split-values", "train=1,2,3", "evaluation=4")
TRAINING = ("--set=width=0.25", "--batch-size=32", "--learning-rate=1e-3")
ONE_THREAD, TWO_THREADS = {"TF_NUM_INTRAOP_THREADS": "1"}, {"TF_NUM_INTRAOP_THREADS": "2"}


def has_instructions(precision: str) -> bool:
    """Whether the processor has instructions for a precision."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & set(FLAGS[precision]))


def write_network(name: str, folder: str) -> None:
    """Write a SavedModel of a network."""
    import training  # noqa: F401  (TensorFlow, quietly)

    # isort: split
    import tensorflow as tf

    model = steps.build(name, "float32")

    def apply(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(patches, training=False)
        return {**outputs, SCORES: tf.sigmoid(outputs["logits"])}

    module = tf.Module()
    module.weights = model.weights
    spec = tf.TensorSpec([None, *steps.PATCH_SHAPE], tf.float32, "patches")
    module.patches = tf.function(apply, input_signature=[spec])
    tf.saved_model.save(module, folder, signatures={"serving_default": module.patches})


def write_int8(folder: str) -> None:
    """Write the int8 form of a SavedModel beside it."""
    patches = steps.batch(CALIBRATION_PATCHES)[0]
    Path(f"{folder}-int8").mkdir()
    calibration.quantise(folder, patches, Path(f"{folder}-int8"))


@functools.cache
def load(folder: str, name: str, precision: Precision) -> inference.Network:
    """Load a network once per process."""
    (found,) = (
        runtime
        for runtime in inference.candidates("saved_model", precision)
        if runtime.name == name
    )
    if precision == "int8":
        return inference.load(f"{folder}-int8/{QUANTISED_GRAPH}", "openvino", found)
    return inference.load(folder, "saved_model", found)


def score(folder: str, name: str, precision: Precision) -> tuple[float, np.ndarray]:
    """Score the patches; returns the wall seconds, and float32 [patches, labels]."""
    network, patches = load(folder, name, precision), steps.batch(NUM_PATCHES)[0]
    start = time.perf_counter()
    scores = network(patches)[SCORES]
    return time.perf_counter() - start, scores


def measure_network(folder: str, num_rounds: int, *, quick: bool) -> dict[str, float]:
    """CPU seconds per patch, by runtime and precision."""
    contestants: list[tuple[str, Precision]] = [("tensorflow", "float32"), ("openvino", "float32")]
    if has_instructions("bfloat16"):
        contestants.append(("openvino", "bfloat16"))
    if has_instructions("int8") or not quick:  # int8 is correct on all processors
        contestants.append(("openvino", "int8"))
    lanes = {contestant: Lane(ONE_THREAD) for contestant in contestants}
    first = {key: lane(score, folder, *key)[1][1] for key, lane in lanes.items()}
    np.testing.assert_allclose(first[contestants[0]], first[contestants[1]], atol=1e-3)
    rounds = []
    for _ in range(num_rounds):
        rounds.append({" ".join(key): lane(score, folder, *key)[0] for key, lane in lanes.items()})
    for lane in lanes.values():
        lane.__exit__()
    return {key: seconds / NUM_PATCHES for key, seconds in median_of(rounds).items()}


def make_features(folder: str) -> None:
    """Write FEATURES, and the export of a ResNet-50 for them."""
    from pipelines import extract_features

    media = Path(folder, "soundtrack.ogg")
    write_soundtrack(media, KINDS["ogg/Vorbis"], minutes=VIDEO_MINUTES)
    dataset = job.make_dataset(Path(folder, "data"), media, num_few=1, num_more=NUM_VIDEOS - 1)
    flags = ["--dataset", str(dataset), "--output", f"{folder}/features", "--workers=1"]
    extract_features.main(flags)

    from training import recipes
    from training.export import export
    from training.input.batches import open_features
    from training.loops.step import fresh_model

    features, recipe = open_features(f"{folder}/features", num_labels=None), recipes.resnet50()
    export(fresh_model(recipe, features), recipe, features, f"{folder}/run")


def run_job(folder: str, split: str) -> None:
    """Score the videos of a split."""
    from evaluation import score_videos

    output = tempfile.mkdtemp(dir=folder)
    flags = ["--features", f"{folder}/features", "--run", f"{folder}/run/{FOLDER}"]
    assert score_videos.main([*flags, "--split", split, "--output", output]) == 0


def run_bare(folder: str, split: str) -> int:
    """Apply the network to the patches of a split in memory; returns their number."""
    features = folders.read_document(f"{folder}/features", Features)
    export = f"{folder}/run/{FOLDER}"
    num_shards = features.splits[split].num_shards
    records = calibration.draw_records(f"{folder}/features", split, num_shards, 10**6, 0)
    network = load(export, "openvino", "float32")
    assert network.batch_size is not None
    patches = calibration.patches_of(records, read_front_end(export))
    for start in range(0, len(patches), network.batch_size):
        network(patches[start : start + network.batch_size])
    return len(patches)


def job_over_runtime(folder: str, num_rounds: int) -> float:
    """CPU time of the job over that of the network."""
    with Lane() as lane:
        lane(make_features, folder)
    with Lane(ONE_THREAD) as lane:
        for run in (run_job, run_bare):  # warm-up
            lane(run, folder, "validation")
        rounds = [
            {run.__name__: lane(run, folder, TRAIN)[0] for run in (run_bare, run_job)}
            for _ in range(num_rounds)
        ]
    seconds = median_of(rounds)
    ratio = seconds["run_job"] / seconds["run_bare"]
    return require_possible("job_over_runtime", ratio, at_least=0.9)


def scaling(folder: str) -> dict[str, float]:
    """Patches per second of two threads, and of two processes, over those of one."""
    call = (score, folder, "openvino", "float32")
    with Lane(ONE_THREAD) as one, Lane(ONE_THREAD) as other, Lane(TWO_THREADS) as two:
        for lane in (one, other, two):
            lane(*call)
        alone, threads = (min(lane(*call)[1][0] for _ in range(3)) for lane in (one, two))
        with ThreadPoolExecutor(2) as pool:
            both = [
                max(result[1][0] for result in pool.map(lambda lane: lane(*call), (one, other)))
                for _ in range(3)
            ]
    return {
        "two_threads_over_one": alone / threads,
        "two_processes_over_one": 2 * alone / min(both),
    }


def train_on_sounds(folder: str, num_steps: int) -> None:
    """Write FEATURES of real clips, and a RUN that is trained on them."""
    from pipelines import extract_features, import_dataset, prepare_dataset
    from training import train

    clips = f"{folder}/clips"
    source = ["--source", str(SOUNDS[0].parent), "--output", clips, *FOLDS]
    assert import_dataset.main(["clip-list", *source]) == 0
    splits = ["--split-column", "published_split", *FOLDS]
    data = ["--manifest", f"{clips}/manifest.parquet", "--output", f"{folder}/dataset", *splits]
    assert prepare_dataset.main(data) == 0
    flags = ["--dataset", f"{folder}/dataset", "--output", f"{folder}/features"]
    assert extract_features.main(flags) == 0
    flags = ["--features", f"{folder}/features", "--output", f"{folder}/run"]
    assert train.main(["resnet50", *flags, *TRAINING, "--steps", str(num_steps)]) == 0


def map_differences(run: str, source: str) -> dict[str, float | None]:
    """mAP in float32 less that of each precision that the processor has."""
    export, features = find_export(run), folders.read_document(source, Features)
    front_end = read_front_end(export)

    def draw(split: str, limit: int) -> list:
        num_shards = features.splits[split].num_shards
        return calibration.draw_records(source, split, num_shards, limit, 0)

    records = draw(EVALUATION, 100_000)

    def measure(network: inference.Network) -> float:
        return calibration.mean_average_precision(network, records, front_end)

    (plain,) = inference.candidates("openvino", "float32")
    before = measure(inference.load(export, "saved_model", plain))
    found: dict[str, float | None] = {"map_float32": before, "map_difference_bfloat16": None}
    if has_instructions("bfloat16"):
        runtime = InferenceRuntime(plain.name, plain.version, "bfloat16")
        after = measure(inference.load(export, "saved_model", runtime))
        found["map_difference_bfloat16"] = before - after
    with tempfile.TemporaryDirectory() as folder:
        train = calibration.patches_of(draw(TRAIN, 512), front_end)
        calibration.quantise(export, train, Path(folder))
        runtime = InferenceRuntime(plain.name, plain.version, "int8")
        graph = str(Path(folder, QUANTISED_GRAPH))
        found["map_difference_int8"] = before - measure(inference.load(graph, "openvino", runtime))
    return found


def differences_on_sounds(folder: str, num_steps: int) -> dict[str, float | None]:
    """Those of a network that is trained here; none without the clips."""
    if not SOUNDS:
        print("null for the differences of mAP: no data/sounds/clips.csv beside the repository")
        return {}
    with Lane(TWO_THREADS) as lane:
        lane(train_on_sounds, folder, num_steps)
    return map_differences(f"{folder}/run", f"{folder}/features")


def ratios(costs: dict[str, float]) -> dict[str, float | None]:
    """CPU time in TensorFlow and float32 over that of each precision that the processor has."""
    found: dict[str, float | None] = {}
    for precision, flags in FLAGS.items():
        if has_instructions(precision):
            ratio = costs["tensorflow float32"] / costs[f"openvino {precision}"]
            found[f"float32_over_{precision}"] = ratio
        else:
            print(f"null for {precision}: this processor has none of {', '.join(flags)}")
            found[f"float32_over_{precision}"] = None
        found[f"map_difference_{precision}"] = None
    found["float32_over_openvino_float32"] = costs["tensorflow float32"] / costs["openvino float32"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ResNet-50 alone, and fewer rounds")
    parser.add_argument("--run", help="a trained network, for the differences of mAP")
    parser.add_argument("--features", help="features with its labels and front end")
    args = parser.parse_args(argv)
    if (args.run is None) != (args.features is None):
        parser.error("--run and --features: received one; give both or none")
    num_rounds = 2 if args.quick else 5
    names = NETWORKS[:1] if args.quick else NETWORKS
    costs: dict[str, dict[str, float]] = {}
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            with Lane() as lane:
                lane(write_network, name, f"{folder}/{name}")
                if has_instructions("int8") or not args.quick:
                    lane(write_int8, f"{folder}/{name}")
            costs[name] = measure_network(f"{folder}/{name}", num_rounds, quick=args.quick)
        if args.run and args.features:
            result |= map_differences(args.run, args.features)
        else:
            result |= differences_on_sounds(f"{folder}/sounds", 150 if args.quick else 600)
        result["job_over_runtime"] = job_over_runtime(folder, 1 if args.quick else 3)
        if not args.quick:
            result |= scaling(f"{folder}/resnet50")
    result = ratios(costs["resnet50"]) | result
    report(result, {"networks": table_of(costs)})
    return 0


def table_of(costs: dict[str, dict[str, float]]) -> Any:
    """Patches per CPU second, and what the paper's corpus and a million videos cost."""
    rows = []
    for name, seconds in costs.items():
        for contestant, per_patch in seconds.items():
            core_hours = per_patch * PATCHES_PER_HOUR * CORPUS_HOURS / 3_600
            per_million = core_hours * 1e6 / CORPUS_VIDEOS
            rows.append([name, contestant, 1 / per_patch, core_hours, per_million])
    header = ["network", "runtime", "patches per CPU second"]
    return make_table([*header, "core-hours of the corpus", "of 1M videos"], rows)


if __name__ == "__main__":
    sys.exit(main())

"""The `soundtrack` command: one name for all commands, listed in the order of the work.

    soundtrack extract-features --dataset dataset --output features

runs `python -m pipelines.extract_features` with the same flags. The module is started by its name
as `__main__`, so that its usage, its exit codes, the command that `made_by` records and the worker
processes that it starts are those of `python -m`. For the same reason this module imports none of
the commands, and so lists them without loading Beam or TensorFlow.
"""

import runpy
import sys
from collections.abc import Sequence
from typing import NamedTuple

from features.errors import BAD_INPUT, OK

_DISTRIBUTION = "soundtrack-classification"
_USAGE = """\
usage: soundtrack COMMAND [options]
       soundtrack COMMAND --help
       soundtrack --version
       soundtrack --print-completion {bash,zsh}
"""


class Command(NamedTuple):
    """One command of the project."""

    name: str
    module: str
    summary: str


STAGES: dict[str, tuple[Command, ...]] = {
    "Check the machine": (
        Command("doctor", "pipelines.doctor", "find what would break a job, and its cure"),
        Command("status", "pipelines.status", "how far a folder is, its cost, what to do next"),
    ),
    "Make a manifest": (
        Command("import-dataset", "pipelines.import_dataset", "AudioSet, ESC-50, FSD50K, clips"),
        Command("compose-soundtracks", "pipelines.compose_soundtracks", "mix clips to soundtracks"),
        Command("demo-corpus", "pipelines.demo_corpus", "write a small synthetic corpus"),
        Command("compare-manifests", "pipelines.compare_manifests", "show how two differ"),
    ),
    "Extract features": (
        Command("prepare-dataset", "pipelines.prepare_dataset", "manifest -> DATASET"),
        Command("plan", "pipelines.plan", "predict the cost of extraction, scoring and training"),
        Command("extract-features", "pipelines.extract_features", "DATASET -> FEATURES"),
        Command("audit-features", "pipelines.audit_features", "check FEATURES, and repair them"),
        Command("index-features", "pipelines.index_features", "renew FEATURES of older versions"),
        Command("forget", "pipelines.forget", "remove videos from FEATURES and SCORES"),
        Command("band-statistics", "pipelines.band_statistics", "mean and variance of each band"),
    ),
    "Train": (
        Command("describe", "training.describe", "show the recipes: weights, multiplies, fields"),
        Command("train", "training.train", "FEATURES -> RUN"),
        Command("sweep", "training.sweep", "train with several values of the options"),
        Command("convert", "training.convert", "export a RUN to TFLite or ONNX"),
        Command("readme", "training.readme", "metrics and licence in the README of an export"),
    ),
    "Evaluate": (
        Command("score-videos", "evaluation.score_videos", "FEATURES + RUN -> SCORES"),
        Command("evaluate", "evaluation.evaluate", "SCORES -> REPORT: metrics and pages"),
        Command("compare", "evaluation.compare", "compare two SCORES on the videos of both"),
        Command("localise", "evaluation.localise", "compare frame scores with times of events"),
        Command("page", "evaluation.soundtrack", "write the page of one scored soundtrack"),
    ),
    "Use a network": (
        Command("tag", "evaluation.tag", "print the labels of media files over time"),
        Command("embed", "evaluation.embed", "write a vector for each 0.96 s of media files"),
        Command("search", "evaluation.search", "find videos that sound like a media file"),
        Command("quantise", "evaluation.quantise", "make the int8 network of --precision int8"),
        Command(
            "extract-embeddings",
            "pipelines.extract_embeddings",
            "FEATURES, or media, to embeddings as FEATURES",
        ),
    ),
    "Reproduce the paper": (
        Command("table1", "evaluation.paper.table1", "labels by decade of their prior"),
        Command("table2", "evaluation.paper.table2", "architectures"),
        Command("table3", "evaluation.paper.table3", "label sets, with and without a bottleneck"),
        Command("table4", "evaluation.paper.table4", "training set sizes"),
        Command("event-detection", "evaluation.paper.event_detection", "section 4.4"),
        Command("asynchronous", "evaluation.paper.asynchronous", "one worker, two and four"),
        Command("modern", "evaluation.paper.modern", "what has been found since the paper"),
        Command("esc50", "evaluation.paper.esc50", "ESC-50: accuracy over four folds"),
        Command("esc10", "evaluation.paper.esc10", "ESC-10: accuracy over four folds"),
        Command("results", "evaluation.paper.results", "collect the results of experiments"),
        Command("figure1", "evaluation.paper.figure1", "d' against prior, for print"),
        Command("map-over-cost", "evaluation.paper.map_over_cost", "mAP against CPU, for print"),
        Command("figure2", "evaluation.paper.figure2", "scores of a soundtrack, for print"),
    ),
}
COMMANDS = {command.name: command for stage in STAGES.values() for command in stage}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command by its name, or list the commands; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(_USAGE + "\n" + list_commands())
        case ["--version", *_]:
            print(f"soundtrack {_version()}")
        case ["--print-completion", *shells]:
            return _print_completion(shells)
        case [word, *rest]:
            name = word.replace("_", "-")
            if name not in COMMANDS:
                return _refuse(name)
            sys.argv[1:] = rest
            runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
    return OK


def list_commands() -> str:
    """All commands by stage, one line each."""
    width = max(map(len, COMMANDS))
    lines = []
    for title, commands in STAGES.items():
        lines += [f"{title}:"]
        lines += [f"  {command.name:<{width}}  {command.summary}" for command in commands]
    return "\n".join(lines)


def _refuse(name: str) -> int:
    import difflib  # here, as in the functions below, because the list does not need it

    nearest = ", ".join(difflib.get_close_matches(name, COMMANDS))
    hint = f"the nearest: {nearest}; " if nearest else ""
    print(
        f"error: no command {name!r}; {hint}`soundtrack` alone lists all commands", file=sys.stderr
    )
    return BAD_INPUT


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version(_DISTRIBUTION)


def _print_completion(shells: Sequence[str]) -> int:
    import argparse

    if shells not in (["bash"], ["zsh"]):
        print("error: --print-completion: give bash or zsh", file=sys.stderr)
        return BAD_INPUT
    try:
        import shtab
    except ModuleNotFoundError:
        print("error: --print-completion needs shtab: `pip install shtab`", file=sys.stderr)
        return BAD_INPUT
    parser = argparse.ArgumentParser("soundtrack")
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("options", nargs="*").complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shells[0]))
    return OK

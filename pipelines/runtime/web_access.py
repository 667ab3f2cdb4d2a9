"""`--requests-per-host` and `--private-hosts`: how the decoders of a job read media of the web."""

import argparse
from collections.abc import Mapping

from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import InputError
from features.storage.web import DEFAULT_REQUESTS_PER_HOST, PRIVATE_HOSTS, REQUESTS_PER_HOST


class WebOptions(PipelineOptions):
    """Carries the flags among the runner's options."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--requests_per_host", type=int, default=DEFAULT_REQUESTS_PER_HOST)
        parser.add_argument("--private_hosts", action="store_true")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command that decodes media."""
    parser.add_argument(
        "--requests-per-host",
        metavar="N",
        type=int,
        default=DEFAULT_REQUESTS_PER_HOST,
        help="concurrent requests of a machine to one host of http:// and https:// media; "
        f"default: {DEFAULT_REQUESTS_PER_HOST}",
    )
    parser.add_argument(
        "--private-hosts",
        action="store_true",
        help="read http:// and https:// media also from addresses that are not public, for a "
        "manifest that you trust",
    )


def runner_flags(args: argparse.Namespace) -> list[str]:
    """The flags of a command as those of its runner; none if the command has none.

    Raises:
      InputError: a number is out of range.
    """
    if not hasattr(args, "requests_per_host"):
        return []
    if args.requests_per_host < 1:
        raise InputError(f"--requests-per-host: received {args.requests_per_host}; give 1 or more")
    flags = [f"--requests_per_host={args.requests_per_host}"]
    return flags + ["--private_hosts"] * args.private_hosts


def environment(options: PipelineOptions) -> Mapping[str, str]:
    """The variables of a worker that its decoders read."""
    web = options.view_as(WebOptions)
    return {
        REQUESTS_PER_HOST: str(web.requests_per_host),
        PRIVATE_HOSTS: str(int(web.private_hosts)),
    }

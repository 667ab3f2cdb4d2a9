"""A Beam worker that a Flink task manager starts, on machines without Beam's container image.

It does what `/opt/apache/beam/boot` does in the image: it asks the runner for the addresses and the
pipeline's options, and becomes the worker. It fetches no artifact, since the environment has the
code already.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format


def main(argv: Sequence[str] | None = None) -> None:
    """Run the worker until the runner ends the connection."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.runtime.beam_worker", description=__doc__
    )
    parser.add_argument("--id", required=True, help="name of the worker, given by the runner")
    parser.add_argument("--provision_endpoint", required=True, help="HOST:PORT of the runner")
    # Runners also pass flags with addresses that are in the answer as well.
    args, _ = parser.parse_known_args(argv)
    request = beam_provision_api_pb2.GetProvisionInfoRequest()
    with grpc.insecure_channel(args.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = service.GetProvisionInfo(request, metadata=[("worker_id", args.id)]).info
    os.environ |= {
        "WORKER_ID": args.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()

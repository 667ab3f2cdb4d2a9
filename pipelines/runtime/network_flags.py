"""The flags `--network` and `--card`, of the commands that run a network with a model card."""

import argparse

from features.contracts.network_card import SHIPPED_CARDS


def add_network_flags(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Add the flags; `when` begins their help."""
    parser.add_argument(
        "--network", metavar="FOLDER", help=f"{when}folder of a network and its network.json"
    )
    parser.add_argument(
        "--card",
        metavar="CARD",
        help=f"{when}in place of FOLDER/network.json: {', '.join(SHIPPED_CARDS)}, or a file",
    )

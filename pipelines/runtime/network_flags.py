"""The flags `--network` and `--card`, of the commands that run a network with a model card."""

import argparse

from features.contracts.network_card import SHIPPED_CARDS
from features.errors import InputError


def add_network_flags(
    network: argparse._ActionsContainer, card: argparse._ActionsContainer, when: str = ""
) -> None:
    """Add the flags.

    Args:
      network: parser or group that gets `--network`.
      card: parser or group that gets `--card`.
      when: beginning of their help.
    """
    network.add_argument(
        "--network", metavar="FOLDER", help=f"{when}folder of a network and its network.json"
    )
    card.add_argument(
        "--card",
        metavar="CARD",
        help=f"in place of the network.json of --network: {', '.join(SHIPPED_CARDS)}, or a file",
    )


def require_float32(precision: str) -> None:
    """Require the precision that networks with a card compute in.

    Raises:
      InputError: it is another one.
    """
    if precision != "float32":
        raise InputError(f"--precision {precision}: a network with a card computes in float32")

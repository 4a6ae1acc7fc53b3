"""Where peers listen, in words and numbers."""

from __future__ import annotations

import pytest

from gossipdistill.presence import NOWHERE, Address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("127.0.0.1", 7400), "127.0.0.1:7400"),
        (Address("::1", 7400), "[::1]:7400"),
        (Address("gpu-3.lab", 0), "gpu-3.lab:0"),
        (NOWHERE, "nowhere"),
    ],
)
def test_addresses_show_themselves_as_they_are_written(address: Address, shown: str) -> None:
    assert str(address) == shown


def test_data_listens_one_port_above_control_and_a_port_not_chosen_yet_has_no_neighbour() -> None:
    assert Address("h", 7400).data_port == 7401
    assert Address("h", 0).data_port == 0

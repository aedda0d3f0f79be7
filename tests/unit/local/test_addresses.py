"""Ports for a mesh: different ones, that nobody who connects is given meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from gathering_local.addresses import free_ports

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not _RANGE.exists(), reason="only Linux tells which ports it gives away")
def test_ports_of_a_mesh_are_different_and_none_that_the_kernel_gives_away() -> None:
    first = int(_RANGE.read_text().split()[0])
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert max(ports) < first

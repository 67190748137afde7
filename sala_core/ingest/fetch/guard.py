"""Which network addresses may be connected to: after a public one, no address of this machine or its network."""

import ipaddress
import socket
from collections.abc import Iterable

import httpcore

from sala_core.errors import FetchError

_LOCAL_SUFFIXES = (".local", ".localhost", ".lan", ".internal", ".home.arpa", ".home")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet. IPv6 forms of an IPv4 address count as that one."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def names_local_host(host: str) -> bool:
    """Return whether a host is written as one of this machine or its network, so that its user knows what it is."""
    try:
        return not is_public(host.strip("[]"))
    except ValueError:
        return "." not in host or host.lower().endswith(_LOCAL_SUFFIXES)


def resolve(host: str, port: int, *, allow_local: bool) -> list[str]:
    """Return the IP addresses of a host.

    Raises FetchError if it has none, or if one of them is local and `allow_local` is False.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"{host} cannot be found ({error}); check the address and the connection") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    local = [address for address in addresses if not is_public(address)]
    if local and not allow_local:
        raise FetchError(
            f"{host} leads to {local[0]}, an address of this machine or its network; it is not fetched, because a "
            "public address must not lead there"
        )
    return addresses


class GuardedBackend(httpcore.NetworkBackend):
    """Connects to the very addresses that were checked, so that a second look-up cannot give others.

    allow_local: whether hosts may be on this machine or its network.
    """

    def __init__(self, *, allow_local: bool) -> None:
        self._inner = httpcore.SyncBackend()
        self._allow_local = allow_local

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers.

        Args:
            host, port: from the URL.
            timeout: seconds for each address.
            local_address, socket_options: as for httpcore.

        Raises FetchError, and httpcore.ConnectError or ConnectTimeout of the last address.
        """
        addresses = resolve(host, port, allow_local=self._allow_local)
        for index, address in enumerate(addresses):
            try:
                return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
        raise FetchError(f"{host} has no address")

"""A port to listen on, taken before anything costly is begun."""

import socket

from crossprop.errors import CrosspropError


def take_port(host: str, port: int, error: type[CrosspropError], option: str, hint: str) -> socket.socket:
    """A socket that listens at an address, port 0 at any free one; else an error that names another by its option."""
    other = port + 1 if 1024 <= port < 65535 else 8000  # lower ones are for the administrator
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address[0], port, *address[2:]))  # getaddrinfo would take 70000 for 4464
        taken.listen()  # two processes may bind one port, but not listen there
    except socket.gaierror as fault:
        raise error(f"The address {host!r} is unknown here. Use 127.0.0.1 or one of this machine.") from fault
    except (OSError, OverflowError) as fault:
        message = f"Port {port} on {host} cannot be used ({fault}). {hint}Choose another, e.g. {option}{other}."
        raise error(message) from fault
    return taken

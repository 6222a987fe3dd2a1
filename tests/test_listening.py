"""Where the processes of a command listen: at the address that was named, and nowhere else."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from purenet import cli

ROOT = Path(__file__).parent.parent

_LISTENS = """
import sys
from pathlib import Path
from purenet import cli
cli._start(["0", "1", f"{sys.argv[1]}:{sys.argv[2]}"])
for name in ("tcp", "tcp6"):
    for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if int(port, 16) == int(sys.argv[2]) and state == "0A":
            print(address)
"""


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs Linux's /proc")
def test_process_0_listens_at_the_host_that_was_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run([sys.executable, "-c", _LISTENS, "127.0.0.1", port], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    # the address of four bytes, as it is or among those of sixteen
    assert re.fullmatch(r"(0{16}F{4}0{4}|0{16}FFFF0000)?0100007F\n", done.stdout), done


def test_every_process_names_the_address_to_listen_at(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "use_cpu_cores", lambda: None)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *a, **options: asked.append((a, options))
    )
    cli._start(["1", "2", "192.168.0.7:4000"])
    ((arguments, options),) = asked
    assert arguments == ("192.168.0.7:4000", 2, 1)
    assert options["coordinator_bind_address"] == "192.168.0.7:4000"


def test_an_address_of_another_machine_is_said_to_be_one(monkeypatch, capsys):
    def cannot(*arguments, **options):
        raise jax.errors.JaxRuntimeError("Failed to start RPC server")

    monkeypatch.setattr(jax.distributed, "initialize", cannot)
    assert cli.main(["sweep", "--process", "0", "2", "203.0.113.1:4000"]) == 2
    assert re.search(
        r"process 0 cannot listen at 203\.0\.113\.1:4000 \(Failed.*an address of the machine",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("address", ["localhost", ":4000", "localhost:http", "localhost:"])
def test_an_address_without_host_and_port_is_refused(address, capsys):
    assert cli.main(["sweep", "--process", "0", "2", address]) == 2
    assert "HOST:PORT of process 0" in capsys.readouterr().err


def test_help_and_pages_say_that_the_port_is_open(capsys):
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--help"])
    assert "Anyone who can reach that port can join" in " ".join(capsys.readouterr().out.split())
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    starts = re.findall(r"jax\.distributed\.initialize\(\n(?s:.*?)\n\)", pages)
    assert starts and all("coordinator_bind_address=here" in start for start in starts)

"""`noduleserve serve` as a process: one ready line, a clean end however it is ended, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from serving import SHM, Inputs, Serving, Wire, command, living, request_of, scored, session_of, until

from noduleserve.release import Release

Serve = Callable[..., Serving]
# Addresses as /proc/net has them; gRPC listens on IPv6 sockets for IPv4 too.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
EVERYWHERE = {"00000000", "0" * 32}


def listening() -> set[tuple[str, int]]:
    """(address in hexadecimal, port) of every TCP socket that listens, IPv4 and IPv6."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, port = local.split(":")
            if state == "0A":
                found.add((address, int(port, 16)))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_ends_on_a_signal(serve: Serve, release: Release, nodule: Inputs, number: signal.Signals) -> None:
    server = serve()
    assert server.facts["release"] == release.id
    with Wire(server.address) as wire:
        (answer,) = scored([wire.unary(request_of(nodule))])
    assert answer["RELEASE"].tolist() == [[release.id]]
    assert session_of(server.triton) == ["triton_python_b"] * 3 + ["tritonserver"]
    assert list(SHM.glob(f"noduleserve_{server.process.pid}_*"))
    assert server.leftovers()
    status, printed = server.end(number)
    assert (status, printed) == (0, "stopped\n")
    assert server.errors() == ""
    assert server.leftovers() == []


def test_ctrl_c_at_a_terminal_reaches_triton_only_through_us(serve: Serve) -> None:
    server = serve()
    triton = next(p for p in living() if p.pid == server.triton)
    assert triton.session == triton.pid != os.getsid(server.process.pid)


def test_a_killed_serve_takes_triton_along(serve: Serve) -> None:
    server = serve()
    status, _ = server.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert until(lambda: session_of(server.triton) == [], seconds=10), session_of(server.triton)
    assert list(SHM.glob(f"noduleserve_{server.process.pid}_*")) == []


def test_a_killed_triton_ends_serve_with_its_reason(serve: Serve) -> None:
    server = serve()
    os.kill(server.triton, signal.SIGKILL)
    status = server.process.wait(20)
    assert status == 1
    assert "[SERVER_DIED] Triton ended with status -9" in server.errors()
    assert server.leftovers() == []


def test_a_signal_before_readiness_ends_it_too(release: Release, tmp_path: Path) -> None:
    server = Serving(release.folder, tmp_path / "server")
    assert until(lambda: any(p.parent == server.process.pid for p in living()), seconds=20)
    (server.triton,) = [p.pid for p in living() if p.parent == server.process.pid]
    status, printed = server.end(signal.SIGTERM)
    assert (status, printed) == (0, "stopped\n")
    assert server.leftovers() == []


def test_requests_in_flight_at_the_signal_are_answered(serve: Serve, nodule: Inputs) -> None:
    server = serve()
    count = 64  # more than a moment's work
    with Wire(server.address) as wire:
        (wanted,) = scored([wire.unary(request_of(nodule))])
        futures = [wire.stub.ModelInfer.future(request_of(nodule, str(i)), timeout=60) for i in range(count)]
        served = wire.batches_of("nodule_preprocess")
        assert until(lambda: wire.batches_of("nodule_preprocess") != served, seconds=20)
        open_still = sum(not future.done() for future in futures)
        server.process.send_signal(signal.SIGTERM)
        answers = [future.result() for future in futures]
    assert open_still > 8
    assert server.process.wait(40) == 0
    assert len(answers) == count
    assert {answer.id for answer in answers} == {str(i) for i in range(count)}
    index = [output.name for output in answers[0].outputs].index("MALIGNANCY")
    for answer in answers:
        got = np.frombuffer(answer.raw_output_contents[index], "<f4")
        np.testing.assert_allclose(got, wanted["MALIGNANCY"][0], atol=1e-6, rtol=0)
    assert server.leftovers() == []


def test_listens_on_loopback_only(serve: Serve) -> None:
    server = serve()
    ports = {int(server.facts[name]) for name in ("grpc", "http", "metrics")}
    assert len(ports) == 3
    assert {address for address, port in listening() if port in ports} <= LOOPBACK
    assert {port for _, port in listening()} >= ports


def test_host_opens_it_to_the_network(serve: Serve, nodule: Inputs) -> None:
    server = serve("--host", "0.0.0.0")
    ports = {int(server.facts[name]) for name in ("grpc", "http", "metrics")}
    assert {address for address, port in listening() if port in ports} <= EVERYWHERE
    with Wire(f"127.0.0.1:{server.facts['grpc']}") as wire:
        scored([wire.unary(request_of(nodule))])


@pytest.mark.parametrize("name", ["grpc", "http", "metrics"])
def test_a_port_in_use_is_named(release: Release, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"grpc": 0, "http": 0, "metrics": 0} | {name: port}
        options = [part for key, value in ports.items() for part in (f"--{key}-port", value)]
        done = command("serve", release.folder, *options, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"[PORT_IN_USE] Something listens on 127.0.0.1:{port} already." in done.stderr
    assert f"--{name}-port" in done.stderr


def test_an_address_that_is_not_ours_is_refused(release: Release) -> None:
    done = command("serve", release.folder, "--host", "192.0.2.1", "--grpc-port", 0, timeout=30)
    assert done.returncode == 1
    assert "[ADDRESS_UNUSABLE] 192.0.2.1:0 cannot be listened on" in done.stderr


def test_a_client_that_hung_up_does_not_hold_up_the_end(serve: Serve, nodule: Inputs) -> None:
    """Triton loses count of the models in use when a stream is cancelled with nodules in flight."""
    server = serve()
    with Wire(server.address) as wire:
        for _ in range(8):
            waiting = threading.Event()
            requests = (request_of(nodule, str(i)) if i < 20 else waiting.wait(20) for i in range(21))
            call = wire.stub.ModelStreamInfer(requests, timeout=20)
            next(call)
            call.cancel()
            waiting.set()
        (answer,) = scored([wire.unary(request_of(nodule))])  # and nobody else suffers
    assert np.isfinite(answer["MALIGNANCY"]).all()
    began = time.monotonic()
    assert server.end(signal.SIGTERM) == (0, "stopped\n")
    assert time.monotonic() - began < 10
    assert server.leftovers() == []


def test_two_servers_beside_one_another(serve: Serve, nodule: Inputs) -> None:
    """A new release is served beside the old one; ending one leaves the other alone."""
    first, second = serve(), serve()
    assert first.end(signal.SIGTERM)[0] == 0
    with Wire(second.address) as wire:
        scored([wire.unary(request_of(nodule))])
    assert list(SHM.glob(f"noduleserve_{second.process.pid}_*"))

"""Two containers on a VLAN: who they are, what they send, and over which link.

Usage, as root, with the modules of README.md, "Clients", on PYTHONPATH: lab.py [unix:/run/ovs-bridged/ovs-bridged.sock]
"""

import contextlib
import subprocess
import sys

import grpc
from google.protobuf.duration_pb2 import Duration
from ovs.bridge.v1 import bridge_pb2, capture_pb2, qos_pb2, service_pb2_grpc, tap_pb2, watch_pb2

BRIDGE, VLAN = "lab", 10
ENDPOINTS = {"red": "10.0.0.1", "blue": "10.0.0.2"}
TIMEOUT_S = 30


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_endpoint(api, undo, name, address):
    run("ip", "netns", "add", name)
    undo.callback(run, "ip", "netns", "delete", name)
    request = tap_pb2.CreateContainerTapRequest(bridge=BRIDGE, tap=name, netns=name, vlan=VLAN)
    tap = api.CreateContainerTap(request, timeout=TIMEOUT_S).tap
    run("ip", "-n", name, "address", "add", f"{address}/24", "dev", f"veth{tap.veth_index}")
    print(f"tap {tap.name} on {tap.bridge}, VLAN {tap.vlan}")


def wait_for_addresses(events):
    awaited = set(ENDPOINTS.values())
    for batch in events:
        for event in batch.events:
            if event.type == watch_pb2.ADDRESS_EVENT_TYPE_LEARNED and event.address.ip in awaited:
                print(f"address {event.address.ip} behind {event.tap}")
                awaited.remove(event.address.ip)
        if not awaited:
            return


def lab(api, undo):
    api.EnsureBridge(bridge_pb2.EnsureBridgeRequest(bridge=BRIDGE), timeout=TIMEOUT_S)
    undo.callback(api.DestroyBridge, bridge_pb2.DestroyBridgeRequest(bridge=BRIDGE), timeout=TIMEOUT_S)
    for name, address in ENDPOINTS.items():
        make_endpoint(api, undo, name, address)

    addresses = api.WatchAddresses(watch_pb2.WatchAddressesRequest(bridge=BRIDGE), timeout=TIMEOUT_S)
    capture = api.StartCapture(capture_pb2.StartCaptureRequest(tap="red", filter="icmp"), timeout=TIMEOUT_S).capture
    run("ip", "netns", "exec", "red", "ping", "-c", "3", "-i", "0.2", ENDPOINTS["blue"])
    wait_for_addresses(addresses)
    addresses.cancel()

    # Absent rates and counters are 0; a stream is read until it tells what is wanted, or its deadline passes.
    request = watch_pb2.WatchTapStatsRequest(taps=["red"], interval=Duration(seconds=1))
    ticks = api.WatchTapStats(request, timeout=TIMEOUT_S)
    stats = next(tap for tick in ticks for tap in tick.stats if tap.rx_bytes and tap.tx_bytes)
    ticks.cancel()
    print(f"red received {stats.rx_bytes} bytes and sent {stats.tx_bytes}")

    capture = api.StopCapture(capture_pb2.StopCaptureRequest(id=capture.id), timeout=TIMEOUT_S).capture
    print(f"captured {capture.packets} packets in {capture.file_name}")

    request = qos_pb2.UpdateQosRequest(tap="blue", qos=qos_pb2.Qos(rate="10mbit"))
    qos = api.UpdateQos(request, timeout=TIMEOUT_S).qos
    print(f"towards blue {qos.actual_to_endpoint.rate}")


def main(target="unix:/run/ovs-bridged/ovs-bridged.sock"):
    with grpc.insecure_channel(target) as channel, contextlib.ExitStack() as undo:
        lab(service_pb2_grpc.BridgeServiceStub(channel), undo)
    print("cleaned up")


main(*sys.argv[1:])

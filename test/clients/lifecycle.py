"""A bridge's and a tap's life over gRPC: lifecycle.py TARGET STUBS. Prints what it saw, as JSON."""

import json
import sys

target, stubs = sys.argv[1:]
sys.path.insert(0, stubs)

import grpc
import google

# The stubs of google.rpc belong into the package that protobuf's own are in.
google.__path__.append(f"{stubs}/google")
from google.rpc import error_details_pb2, status_pb2
from ovs.bridge.v1 import bridge_pb2, service_pb2_grpc, tap_pb2


def refusal(call, request):
    """The status of a call that is refused, and the reason in its details."""
    try:
        call(request, timeout=30)
    except grpc.RpcError as error:
        packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
        return [error.code().name, info.reason]
    return []


with grpc.insecure_channel(target) as channel:
    api = service_pb2_grpc.BridgeServiceStub(channel)
    tap_names = lambda **filters: [tap.name for tap in api.ListTaps(tap_pb2.ListTapsRequest(**filters), timeout=30).taps]
    saw = {}
    saw["bridge"] = api.EnsureBridge(bridge_pb2.EnsureBridgeRequest(bridge="lab"), timeout=30).bridge.name
    tap = api.CreateTap(tap_pb2.CreateTapRequest(bridge="lab", tap="vm1", vlan=10), timeout=30).tap
    saw["tap"] = [tap.name, tap.bridge, tap.vlan, tap_pb2.TapState.Name(tap.state)]
    saw["again"] = refusal(api.CreateTap, tap_pb2.CreateTapRequest(bridge="lab", tap="vm1"))
    # Absent and 0 are different things to ask for.
    saw["listed"] = {"all": tap_names(), "untagged": tap_names(vlan=0), "vlan 10": tap_names(vlan=10)}
    api.DestroyTap(tap_pb2.DestroyTapRequest(tap="vm1"), timeout=30)
    api.DestroyBridge(bridge_pb2.DestroyBridgeRequest(bridge="lab"), timeout=30)
    saw["left"] = tap_names()
print(json.dumps(saw))

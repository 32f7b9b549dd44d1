#!/bin/bash
# Two containers on a VLAN: who they are, what they send, and over which link. With nothing but buf curl: the contract
# comes by reflection. As root, in a checkout: examples/shell/lab.sh [/run/ovs-bridged/ovs-bridged.sock]
set -euo pipefail
socket=${1:-/run/ovs-bridged/ovs-bridged.sock}
buf=$(dirname "$0")/../../node_modules/.bin/buf
scratch=$(mktemp -d)

# METHOD REQUEST. With grpcurl 1.9.2 or newer, as its sources have it; no test runs this, for it is not in Debian:
#   grpcurl -plaintext -d "$2" "unix://$socket" "ovs.bridge.v1.BridgeService/$1"
call() {
  "$buf" curl --protocol grpc --http2-prior-knowledge --unix-socket "$socket" \
    -d "$2" "http://localhost/ovs.bridge.v1.BridgeService/$1"
}

# METHOD REQUEST FILE: a stream, into a file, until clean_up or a minute has passed.
watch() {
  timeout 60 "$buf" curl --protocol grpc --http2-prior-knowledge --unix-socket "$socket" \
    -d "$2" "http://localhost/ovs.bridge.v1.BridgeService/$1" >"$3" 2>"$3.errors" &
  watches+=($!)
}
watches=() namespaces=()

# Waits until PATTERN is in FILE.
await() {
  local deadline=$((SECONDS + 50))
  until grep -Eq "$1" "$2"; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "no $1 came" >&2 && cat "$2" "$2.errors" >&2 && exit 1; }
    sleep 0.1
  done
}

# The first FIELD of JSON on standard input.
field() { sed -En "s/.*\"$1\": *\"?([^\",]*).*/\1/p" | head -n 1; }

clean_up() {
  for pid in "${watches[@]}"; do kill "$pid" 2>/dev/null || true; done
  call DestroyBridge '{"bridge":"lab"}' >/dev/null
  for name in "${namespaces[@]}"; do ip netns delete "$name"; done
  rm -r "$scratch"
  echo 'cleaned up'
}

call EnsureBridge '{"bridge":"lab"}' >/dev/null
trap clean_up EXIT
address=1
for name in red blue; do
  ip netns add "$name"
  namespaces+=("$name")
  call CreateContainerTap "{\"bridge\":\"lab\",\"tap\":\"$name\",\"netns\":\"$name\",\"vlan\":10}" >"$scratch/tap"
  ip -n "$name" address add "10.0.0.$address/24" dev veth0
  echo "tap $(field name <"$scratch/tap") on $(field bridge <"$scratch/tap"), VLAN $(field vlan <"$scratch/tap")"
  address=$((address + 1))
done

watch WatchAddresses '{"bridge":"lab"}' "$scratch/addresses"
watch WatchTapStats '{"taps":["red"],"interval":"1s"}' "$scratch/stats"
call StartCapture '{"tap":"red","filter":"icmp"}' >"$scratch/capture"
ip netns exec red ping -c 3 -i 0.2 10.0.0.2 >/dev/null
await '"10\.0\.0\.1"' "$scratch/addresses" && echo 'address 10.0.0.1 behind red'
await '"10\.0\.0\.2"' "$scratch/addresses" && echo 'address 10.0.0.2 behind blue'
await '"rxBytes": "[1-9]' "$scratch/stats" && await '"txBytes": "[1-9]' "$scratch/stats"
echo "red received $(field rxBytes <"$scratch/stats") bytes and sent $(field txBytes <"$scratch/stats")"

call StopCapture "{\"id\":$(field id <"$scratch/capture")}" >"$scratch/stopped"
echo "captured $(field packets <"$scratch/stopped") packets in $(field fileName <"$scratch/stopped")"

echo "towards blue $(call UpdateQos '{"tap":"blue","qos":{"rate":"10mbit"}}' | grep -A 3 actualToEndpoint | field rate)"

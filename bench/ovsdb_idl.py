"""The Python sides of the OVSDB benches, with Debian's python3-openvswitch.

    ovsdb_idl.py load|transact SCHEMA SOCKET COUNT

Prints what bench/ovsdb-sides.ts calls a SideResult.
"""
import json
import sys
import time

import ovs.db.idl


def resident_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def opened(helper, socket):
    idl = ovs.db.idl.Idl("unix:" + socket, helper)
    while not idl.has_ever_connected():
        if not idl.run():
            poller = ovs.poller.Poller()
            idl.wait(poller)
            poller.block()
    return idl


def main():
    what, schema, socket, count = sys.argv[1:]
    helper = ovs.db.idl.SchemaHelper(schema)
    if what == "load":
        helper.register_all()
        before, started = resident_bytes(), time.monotonic()
        idl = opened(helper, socket)
    else:
        helper.register_columns("Open_vSwitch", ["next_cfg"])
        idl = opened(helper, socket)
        before, started = resident_bytes(), time.monotonic()
        root = next(iter(idl.tables["Open_vSwitch"].rows.values()))
        for _ in range(int(count)):
            transaction = ovs.db.idl.Transaction(idl)
            root.next_cfg += 1
            status = transaction.commit_block()
            assert status == ovs.db.idl.Transaction.SUCCESS, status
    took_ms = (time.monotonic() - started) * 1000
    print(json.dumps({"ms": took_ms, "grownBytes": resident_bytes() - before}))
    idl.close()


main()

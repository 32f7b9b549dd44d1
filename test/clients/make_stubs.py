"""Makes Python modules of descriptors: make_stubs.py DESCRIPTORS OUT FILE.proto...

DESCRIPTORS is what `buf build -o` writes. grpc_tools of Debian 12 is of 2018 and cannot parse `optional` in proto3, but it
generates from descriptors; its command line does not let them through, so the compiler behind it is called.
"""

import pathlib
import sys

from grpc_tools import _protoc_compiler

descriptors, out, *files = sys.argv[1:]
arguments = [f"--descriptor_set_in={descriptors}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
status = _protoc_compiler.run_main([argument.encode() for argument in ["protoc", *arguments]])
if status == 0:
    # Debian's Open vSwitch has a Python package `ovs` too; this lets one program import from both.
    share = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    pathlib.Path(out, "ovs", "__init__.py").write_text(share)
sys.exit(status)

#!/usr/bin/env python3
"""Compiles kernels.cu to kernels.ptx with NVRTC; no GPU needed.

    pip download --no-deps -d DIR nvidia-cuda-nvrtc-cu12==12.4.127 && unzip DIR/*.whl -d DIR
    python3 host/gpu/kernels/build.py DIR/nvidia/cuda_nvrtc/lib/libnvrtc.so.12

The first line of the result names the sha256 of the source, which a test compares.
"""
import ctypes
import hashlib
import pathlib
import sys

here = pathlib.Path(__file__).parent
source = (here / "kernels.cu").read_bytes()
nvrtc = ctypes.CDLL(sys.argv[1])


def check(code, what):
    if code:
        sys.exit(f"{what}: NVRTC error {code}")


program = ctypes.c_void_p()
check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None), "create")
# compute_75: Turing, the oldest GPU that today's drivers and TensorRT take. No fused multiply-add: see kernels.cu.
options = [b"--gpu-architecture=compute_75", b"--fmad=false", b"--std=c++17", b"-default-device"]
code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
size = ctypes.c_size_t()
nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
log = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetProgramLog(program, log)
if log.value.strip():
    print(log.value.decode(), file=sys.stderr)
check(code, "compile")
check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)), "size")
ptx = ctypes.create_string_buffer(size.value)
check(nvrtc.nvrtcGetPTX(program, ptx), "ptx")
digest = hashlib.sha256(source).hexdigest()
(here / "kernels.ptx").write_bytes(f"// of kernels.cu, sha256 {digest}\n".encode() + ptx.value)

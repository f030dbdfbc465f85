"""What a face's JPEG costs on a GPU by nvJPEG: for the choice between it and the processor's encoder (RESULTS.md).

    python3 nvjpeg.py [--threads 1 4]

Needs an NVIDIA GPU and CUDA's libnvjpeg and libcudart, loaded with ctypes; no packages. In nvJPEG's favour: planes lie on the
device already, in full range and at their size, so that only encoding, one wait and fetching the bytes are counted.
"""

import argparse
import ctypes
import glob
import statistics
import sys
import threading
import time

SIZES = [(112, 112), (160, 200), (320, 400), (640, 800)]
CSS_420, QUALITY, ROUNDS = 2, 90, 300


class Image(ctypes.Structure):
    _fields_ = [("channel", ctypes.c_void_p * 4), ("pitch", ctypes.c_size_t * 4)]


def load(name):
    packages = [p for p in sys.path if p.endswith("-packages")]
    places = ["/usr/local/cuda*/lib64", "/usr/lib/x86_64-linux-gnu", *(f"{p}/nvidia/*/lib" for p in packages)]
    for path in [name] + sorted(f for place in places for f in glob.glob(f"{place}/{name}*")):
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    raise SystemExit(f"{name} is not on this machine")


def ok(code, what):
    if code:
        raise SystemExit(f"{what}: error {code}")


def encoder(jpeg, cuda, width, height):
    """A function that encodes one picture and gives the bytes."""
    handle, state, parameters = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    stream = ctypes.c_void_p()
    ok(cuda.cudaStreamCreate(ctypes.byref(stream)), "stream")
    ok(jpeg.nvjpegCreateSimple(ctypes.byref(handle)), "nvjpegCreateSimple")
    ok(jpeg.nvjpegEncoderStateCreate(handle, ctypes.byref(state), stream), "state")
    ok(jpeg.nvjpegEncoderParamsCreate(handle, ctypes.byref(parameters), stream), "parameters")
    ok(jpeg.nvjpegEncoderParamsSetQuality(parameters, QUALITY, stream), "quality")
    ok(jpeg.nvjpegEncoderParamsSetSamplingFactors(parameters, CSS_420, stream), "sampling")
    image = Image()
    for n, (w, h) in enumerate([(width, height), ((width + 1) // 2, (height + 1) // 2), ((width + 1) // 2, (height + 1) // 2)]):
        # A smooth face-like picture with some texture; noise would be larger and slower for everybody.
        plane = bytes((128 + (x * 5 + y * 3) % 48 + (x * y) % 7) & 255 for y in range(h) for x in range(w))
        at = ctypes.c_void_p()
        ok(cuda.cudaMalloc(ctypes.byref(at), ctypes.c_size_t(w * h)), "memory")
        ok(cuda.cudaMemcpy(at, plane, ctypes.c_size_t(w * h), 1), "copy")
        image.channel[n], image.pitch[n] = at, w
    out = ctypes.create_string_buffer(width * height * 2 + 4096)

    def encode():
        ok(jpeg.nvjpegEncodeYUV(handle, state, parameters, ctypes.byref(image), CSS_420, width, height, stream), "encode")
        length = ctypes.c_size_t(len(out))
        ok(jpeg.nvjpegEncodeRetrieveBitstream(handle, state, out, ctypes.byref(length), stream), "retrieve")
        ok(cuda.cudaStreamSynchronize(stream), "wait")
        return length.value

    return encode


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--threads", type=int, nargs="+", default=[1, 4])
    a = a.parse_args()
    cuda, jpeg = load("libcudart.so"), load("libnvjpeg.so")
    for width, height in SIZES:
        for threads in a.threads:
            encoders = [encoder(jpeg, cuda, width, height) for _ in range(threads)]
            taken, size = [], 0

            def work(encode):
                nonlocal size
                for n in range(ROUNDS + 20):
                    begun = time.perf_counter()
                    size = encode()
                    if n >= 20:
                        taken.append(time.perf_counter() - begun)

            cpu, wall = time.process_time(), time.perf_counter()
            running = [threading.Thread(target=work, args=(e,)) for e in encoders]
            for t in running:
                t.start()
            for t in running:
                t.join()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            count = threads * (ROUNDS + 20)
            print(f"nvJPEG {width}x{height}, {threads} threads: median {statistics.median(taken) * 1e6:.0f} us, "
                  f"{count / wall:.0f} pictures/s, {cpu / count * 1e6:.0f} us of processor each, {size} bytes")


if __name__ == "__main__":
    main()

"""The letterbox against OpenCV's three passes, in turns, on one core each: prints both medians and their ratio.

    pip install opencv-python-headless==5.0.0.93
    cargo bench -p facestream-infer --bench letterbox --no-run      # prints the executable
    python letterbox_opencv.py target/release/deps/letterbox-…

OpenCV does cvtColorTwoPlane + resize + blobFromImage on an NV12 picture of 1080p, to 640x360 as the letterbox does.
"""

import re
import statistics
import subprocess
import sys
import time

import cv2
import numpy as np

cv2.setNumThreads(1)
rng = np.random.default_rng(1)
y = rng.integers(0, 256, (1080, 1920), dtype=np.uint8)
uv = rng.integers(0, 256, (540, 960, 2), dtype=np.uint8)


def opencv():
    times = []
    for _ in range(300):
        start = time.perf_counter()
        bgr = cv2.cvtColorTwoPlane(y, uv, cv2.COLOR_YUV2BGR_NV12)
        small = cv2.resize(bgr, (640, 360), interpolation=cv2.INTER_LINEAR)
        cv2.dnn.blobFromImage(small, 1 / 255, swapRB=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def ours():
    out = subprocess.run([sys.argv[1], "--bench", "nv12-1080p", "--warm-up-time", "0.5", "--measurement-time", "1"],
                         check=True, capture_output=True, text=True).stdout
    value, unit = re.search(r"time:\s+\[\S+ \S+ (\S+) (\S+)", out).groups()
    return float(value) * {"ns": 1e-3, "µs": 1, "us": 1, "ms": 1e3}[unit]


rounds = [(opencv(), ours()) for _ in range(5)]
a, b = (statistics.median(r[n] for r in rounds) for n in (0, 1))
print(f"opencv {a:.0f} us, letterbox {b:.0f} us, ratio {a / b:.1f}")

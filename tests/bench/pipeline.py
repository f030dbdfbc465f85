"""The whole pipeline on a file: `facestream run` beside the Python peer, in turns, with the same model and threads.

    python pipeline.py CLIP --assets ../../target/assets --facestream ../../target/release/facestream [--rounds 3] [--perf]

Owns the turns and the table. Every figure is of whole processes, start included; frames a second are frames / wall time
for ours, and for the peers the time of their loop alone (imports and model loading left out, in their favour). CPU outside
inference: samples of `perf record` (cpu-clock) that fall neither into ONNX Runtime's library nor into the layers of the
model that `facestream` computes itself (`facestream_infer::stem`), per analysed frame; start of the interpreter and of ours included for both and shown as measured on an empty run ("start").
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def measured(command):
    """Runs a command: (wall s, CPU s, peak MiB, its standard output)."""
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        if status != 0:
            raise SystemExit(f"failed ({status}): {command}")
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read().decode()


def shares(command):
    """CPU seconds by `perf record`: (in ONNX Runtime, in the model's layers outside of it, everything else)."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-o", data, "--", *command],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        text = subprocess.run(["perf", "script", "-i", data, "-F", "period,dso,ip,sym"], check=True, capture_output=True, text=True,
                              errors="replace").stdout
    inside = layers = other = 0
    for line in text.splitlines():
        period = line.split(None, 1)
        if not period or not period[0].isdigit():
            continue
        if "onnxruntime" in line:
            inside += int(period[0])
        elif "facestream_infer::stem" in line:
            layers += int(period[0])
        else:
            other += int(period[0])
    return inside / 1e9, layers / 1e9, other / 1e9


def main():
    a = argparse.ArgumentParser()
    a.add_argument("clip")
    a.add_argument("--assets", default=str(HERE / "../../target/assets"))
    a.add_argument("--facestream", default=str(HERE / "../../target/release/facestream"))
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--threads", default="2")
    a.add_argument("--perf", action="store_true", help="also CPU inside and outside inference (needs perf)")
    a.add_argument("--models", nargs="*", default=["yunet", "centerface"])
    args = a.parse_args()

    def peer(model, *more):
        return [sys.executable, str(HERE / "pipeline_python.py"), args.clip, "--model", f"{args.assets}/models/{model}.onnx",
                "--family", model, "--threads", args.threads, *more]

    for model in args.models:
        runs = {
            "facestream": [args.facestream, "run", args.clip, "--model", model, "--emit", "messages", "--out", "/dev/null",
                           "--threads", args.threads, "--quiet"],
            "python, ultralytics": peer(model, "--mend"),
            "python, ultralytics, no spinning": peer(model, "--mend", "--no-spin"),
            "python, trackforge, no spinning": peer(model, "--mend", "--no-spin", "--tracker", "trackforge"),
        }
        if model == "centerface":
            runs["python, ultralytics, file as shipped"] = peer(model)
        result = {name: [] for name in runs}
        frames = 0
        for _ in range(args.rounds):
            for name, command in runs.items():
                wall, cpu, peak, out = measured(command)
                if name == "facestream":
                    result[name].append((wall, cpu, peak))
                else:
                    told = json.loads(out.splitlines()[-1])
                    frames = told["frames"]
                    result[name].append((told["seconds"], told["cpu"], peak))
        middle = {n: [statistics.median(r[k] for r in rows) for k in range(3)] for n, rows in result.items()}
        ours = middle["facestream"]
        print(f"\n{model}: {frames} frames, {args.threads} threads, medians of {args.rounds} rounds, in turns")
        print(f"{'pipeline':38s} frames/s  ours is  CPU ms/frame  peak MiB")
        for name, (wall, cpu, peak) in middle.items():
            print(f"{name:38s} {frames / wall:8.1f} {wall / ours[0]:7.2f}x {cpu / frames * 1e3:13.2f} {peak:9.0f}")
        if args.perf:
            print(f"{'CPU ms/frame by perf':38s}  library  own layers  outside inference")
            for name, command in runs.items():
                spent = (seconds / frames * 1e3 for seconds in shares(command))
                print("{:38s} {:8.2f} {:11.2f} {:18.2f}".format(name, *spent))
        sys.stdout.flush()


if __name__ == "__main__":
    main()

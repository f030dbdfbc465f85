"""Live cameras against the real host: drops, memory a camera, start-up, and the status call with 100 cameras.

    python cameras.py CLIP --facestream ../../target/release/facestream [--seconds 60] [--steps 1 4 8] [--detect-fps 10]

Owns one simulator process and one host at a time, on loopback. Drops are read from /metrics at the beginning and the end
of each step's window, memory is PSS from /proc/PID/smaps_rollup. Simulator and host share the machine's cores.
"""

import argparse
import http.client
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PORT, RTSP = 18480, 18554


class Host:
    """`facestream serve` with a folder of its own."""

    def __init__(self, program, folder, config):
        self.log = pathlib.Path(folder) / "host.log"
        begun = time.perf_counter()
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([program, "serve", "--config", config, "--listen", f"127.0.0.1:{PORT}", "--data", f"{folder}/data"],
                                            stdout=log, stderr=log)
        while True:
            try:
                if self.get("/readyz")[0] in (200, 503):
                    break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - begun > 120:
                    raise SystemExit(self.log.read_text()[-2000:]) from None
                time.sleep(0.005)
        self.answering = time.perf_counter() - begun

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, r.read().decode()

    def get(self, path):
        return self.ask("GET", path)

    def pss(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) / 1024

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def counters(self):
        """Sums over cameras of every counter: name (with reason) to value."""
        out = {}
        for name, labels, value in re.findall(r"^(facestream_\w+)\{([^}]*)\} (\S+)$", self.get("/metrics")[1], re.M):
            if "_bucket" in name:
                continue
            reason = re.search(r'reason="([^"]+)"', labels)
            key = name + (f"[{reason.group(1)}]" if reason else "")
            out[key] = out.get(key, 0) + float(value)
        return out

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def started_in(self):
        found = re.findall(r"started_in\W+([\d.]+)(ms|s|µs)", re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text()))
        return [f"{v} {u}" for v, u in found]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("clip")
    a.add_argument("--facestream", default=str(HERE / "../../target/release/facestream"))
    a.add_argument("--seconds", type=float, default=60)
    a.add_argument("--settle", type=float, default=10)
    a.add_argument("--steps", type=int, nargs="*", default=[1, 4, 8])
    a.add_argument("--detect-fps", type=float, default=10)
    args = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/facestream.toml"
        pathlib.Path(config).write_text("[ingest.addresses]\nallow_loopback = true\n")
        sim = subprocess.Popen([args.facestream, "sim", args.clip, "--cameras", str(max(args.steps)), "--listen", f"127.0.0.1:{RTSP}"],
                               stdout=subprocess.PIPE, text=True)
        host = None
        try:
            urls = [sim.stdout.readline().strip() for _ in range(max(args.steps))]
            host = Host(args.facestream, folder, config)
            print(f"first start: answers after {host.answering * 1e3:.0f} ms")
            host.stop()
            host = Host(args.facestream, folder, config)
            print(f"idle PSS {host.pss():.0f} MiB")
            started, memory = 0, {}
            for step in args.steps:
                while started < step:
                    status, text = host.ask("POST", "/camera/start", {"camera_id": f"camera-{started + 1}", "rtsp_link": urls[started],
                                                                      "detect_fps": args.detect_fps})
                    assert status in (200, 201, 202), text
                    started += 1
                time.sleep(args.settle)
                before, cpu, begun = host.counters(), host.cpu(), time.perf_counter()
                sim_cpu = sum(map(int, pathlib.Path(f"/proc/{sim.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13])) / 100
                time.sleep(args.seconds)
                after, took = host.counters(), time.perf_counter() - begun
                memory[step] = host.pss()
                sim_cpu = sum(map(int, pathlib.Path(f"/proc/{sim.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13])) / 100 - sim_cpu
                moved = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
                print(f"\n{step} cameras, {took:.0f} s: PSS {memory[step]:.0f} MiB, host {(host.cpu() - cpu) / took:.2f} cores, "
                      f"simulator {sim_cpu / took:.2f} cores")
                for k, v in sorted(moved.items()):
                    if any(w in k for w in ("decoded", "analysed", "dropped", "drops", "reconnect", "messages")):
                        print(f"  {k} {v:.0f} ({v / took / step:.2f} a second and camera)")
                print(f"  {host.get('/camera/status')[1][:400]}", flush=True)
            steps = sorted(memory)
            for a_, b in zip(steps, steps[1:]):
                print(f"memory a camera from {a_} to {b}: {(memory[b] - memory[a_]) / (b - a_):.1f} MiB")
            host.stop()
            starts = []
            for _ in range(5):
                host = Host(args.facestream, folder, config)
                starts.append(host.answering)
                host.stop()
            print(f"start with cached components and {started} cameras kept: process to answer {statistics.median(starts) * 1e3:.0f} ms "
                  f"(of 5: {', '.join(f'{s * 1e3:.0f}' for s in starts)}); the host's own log: {', '.join(host.started_in()[-5:])}")
            # The status call: cameras that nobody answers for, in the real host.
            host = Host(args.facestream, f"{folder}", config)
            for n in range(started):
                host.ask("POST", "/camera/stop", {"camera_id": f"camera-{n + 1}"})
            for n in range(100):
                status, text = host.ask("POST", "/camera/start", {"camera_id": f"dead-{n}", "rtsp_link": f"rtsp://127.0.0.1:{RTSP + 1}/{n}"})
                assert status in (200, 201, 202), text
            time.sleep(5)
            c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
            times = []
            for _ in range(2000):
                begun = time.perf_counter()
                c.request("GET", "/camera/status")
                c.getresponse().read()
                times.append(time.perf_counter() - begun)
            times.sort()
            print(f"GET /camera/status, 100 cameras, Python client: p50 {times[1000] * 1e6:.0f} us, p99 {times[1980] * 1e6:.0f} us")
        finally:
            sim.terminate()
            if host is not None and host.process.poll() is None:
                host.stop()


if __name__ == "__main__":
    main()

"""Trackers on the same detection files: quality (MOTA, IDF1, HOTA, id switches) and microseconds a frame.

    python trackers.py SCENES_DIR --facestream ../../target/release/facestream [--assets DIR] [--buffer 60] [--rounds 3]

Owns the runs, the scores and the table. Peers are run as their packages come: ultralytics (re-identification and
camera motion off) and trackforge, with the same thresholds as ours. Scores are TrackEval's (HOTA, CLEAR, Identity).
Speed: the trackers take turns on the same files, so that a busy machine hurts all of them; the median round counts.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import time
from types import SimpleNamespace

import numpy as np

HIGH, LOW, NEW, MATCH, FPS = 0.6, 0.1, 0.7, 0.8, 30


def rows(path, columns):
    out = np.loadtxt(path, delimiter=",", ndmin=2)
    return out[:, :columns] if out.size else np.zeros((0, columns))


def frames_of(table, last):
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    edges = np.searchsorted(table[:, 0], np.arange(1, last + 2))
    return [table[edges[k]:edges[k + 1]] for k in range(last)]


def facestream(guest, report):
    def run(det, _frames, args):
        out = pathlib.Path(args.work) / "tracks.txt"
        command = [args.facestream, "guest", "track", guest, "--detections", str(det), "--fps", str(FPS), "--size", "1920x1080",
                   "--out", str(out), "--config", json.dumps({**ours(args), "report": report, **json.loads(args.ours_config)})]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        spent = float(re.search(r"([\d.]+) us a frame", text).group(1))
        return rows(out, 6), spent
    return run


def ours(args):
    return {"track_high_thresh": HIGH, "track_low_thresh": LOW, "new_track_thresh": NEW, "match_thresh": MATCH,
            "track_buffer_ms": round(args.buffer * 1000 / FPS)}


def ultralytics(kind):
    def run(_det, frames, args):
        from ultralytics.engine.results import Boxes
        from ultralytics.trackers.bot_sort import BOTSORT
        from ultralytics.trackers.byte_tracker import BYTETracker

        settings = SimpleNamespace(tracker_type=kind, track_high_thresh=HIGH, track_low_thresh=LOW, new_track_thresh=NEW,
                                   track_buffer=args.buffer, match_thresh=MATCH, fuse_score=True, gmc_method="none",
                                   proximity_thresh=0.5, appearance_thresh=0.8, with_reid=False, model="auto")
        tracker = (BOTSORT if kind == "botsort" else BYTETracker)(settings)
        out, spent = [], 0.0
        for k, f in enumerate(frames):
            data = np.zeros((len(f), 6), np.float32)
            data[:, :2], data[:, 2:4], data[:, 4] = f[:, 2:4], f[:, 2:4] + f[:, 4:6], f[:, 6]
            boxes = Boxes(data, (1080, 1920))
            begun = time.perf_counter()
            tracks = tracker.update(boxes)
            spent += time.perf_counter() - begun
            for t in tracks:
                out.append((k + 1, t[4], t[0], t[1], t[2] - t[0], t[3] - t[1]))
        return np.array(out).reshape(-1, 6), spent / len(frames) * 1e6
    return run


def trackforge(kind):
    def run(_det, frames, args):
        import trackforge as tf

        tracker = getattr(tf, kind)(track_thresh=HIGH, track_buffer=args.buffer, match_thresh=MATCH, det_thresh=NEW)
        out, spent = [], 0.0
        for k, f in enumerate(frames):
            dets = [(r[2:6].tolist(), float(r[6]), 0) for r in f]
            begun = time.perf_counter()
            tracks = tracker.update(dets)
            spent += time.perf_counter() - begun
            # The last member tells whether a track was matched in this frame; only those count, as for the others.
            out += [(k + 1, t[0], *t[1]) for t in tracks if t[4] is not None]
        return np.array(out).reshape(-1, 6), spent / len(frames) * 1e6
    return run


# What a matched track reports: the filter's box (our default; ultralytics does the same) or the detector's (as trackforge
# does).
TRACKERS = {
    "facestream botsort": facestream("botsort", "filtered"),
    "facestream botsort, measured": facestream("botsort", "measured"),
    "ultralytics BOTSORT": ultralytics("botsort"),
    "trackforge BOTSORT": trackforge("BOTSORT"),
    "facestream bytetrack": facestream("bytetrack", "filtered"),
    "ultralytics BYTETracker": ultralytics("bytetrack"),
    "trackforge BYTETRACK": trackforge("BYTETRACK"),
}


def sequence(gt, tracks, last):
    """The dictionary that TrackEval's metrics take; similarity is IoU."""
    ids_g = {v: n for n, v in enumerate(np.unique(gt[:, 1]))}
    ids_t = {v: n for n, v in enumerate(np.unique(tracks[:, 1]))}
    data = dict(gt_ids=[], tracker_ids=[], similarity_scores=[], num_gt_dets=len(gt), num_tracker_dets=len(tracks),
                num_gt_ids=len(ids_g), num_tracker_ids=len(ids_t), num_timesteps=last, seq="scene")
    for g, t in zip(frames_of(gt, last), frames_of(tracks, last)):
        data["gt_ids"].append(np.array([ids_g[v] for v in g[:, 1]], int))
        data["tracker_ids"].append(np.array([ids_t[v] for v in t[:, 1]], int))
        a, b = g[:, None, 2:6], t[None, :, 2:6]
        low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
        inter = np.prod(np.clip(high - low, 0, None), axis=-1)
        union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - inter
        data["similarity_scores"].append(inter / np.maximum(union, 1e-9))
    return data


def metrics():
    from trackeval.metrics import CLEAR, HOTA, Identity

    return {"HOTA": HOTA(), "CLEAR": CLEAR(dict(THRESHOLD=0.5, PRINT_CONFIG=False)), "Identity": Identity(dict(THRESHOLD=0.5, PRINT_CONFIG=False))}


def numbers(scored):
    h, c, i = scored["HOTA"], scored["CLEAR"], scored["Identity"]
    return dict(HOTA=float(np.mean(h["HOTA"])) * 100, AssA=float(np.mean(h["AssA"])) * 100, LocA=float(np.mean(h["LocA"])) * 100,
                MOTA=float(c["MOTA"]) * 100, IDF1=float(i["IDF1"]) * 100, IDSW=int(c["IDSW"]), FP=int(c["CLR_FP"]), FN=int(c["CLR_FN"]),
                Frag=int(c["Frag"]))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("scenes", type=pathlib.Path)
    a.add_argument("--facestream", default=str(pathlib.Path(__file__).parent / "../../target/release/facestream"))
    a.add_argument("--buffer", type=int, default=60, help="frames that a lost track lives")
    a.add_argument("--rounds", type=int, default=1, help="for speed; quality is the same in each")
    a.add_argument("--work", default="/tmp")
    a.add_argument("--only", nargs="*", default=list(TRACKERS), help="parts of trackers' names")
    a.add_argument("--ours-config", default="{}", help="JSON over our parameters, to try one")
    a.add_argument("--json", type=pathlib.Path)
    args = a.parse_args()
    chosen = {n: r for n, r in TRACKERS.items() if any(o in n for o in args.only)}
    judge = metrics()
    scored = {n: {m: {} for m in judge} for n in chosen}
    speed = {n: [] for n in chosen}
    table = {n: {} for n in chosen}
    scenes = sorted(d for d in args.scenes.iterdir() if (d / "det.txt").exists())
    for d in scenes:
        gt, det = rows(d / "gt.txt", 6), rows(d / "det.txt", 7)
        last = int(max(gt[:, 0].max(), det[:, 0].max()))
        frames = frames_of(det, last)
        times = {n: [] for n in chosen}
        for turn in range(args.rounds):
            for name, run in chosen.items():
                tracks, spent = run(d / "det.txt", frames, args)
                times[name].append(spent)
                if turn == 0:
                    data = sequence(gt, tracks, last)
                    for m, judged in judge.items():
                        scored[name][m][d.name] = judged.eval_sequence(data)
                    table[name][d.name] = numbers({m: scored[name][m][d.name] for m in judge})
        for name in chosen:
            table[name][d.name]["us"] = statistics.median(times[name])
            speed[name].append(table[name][d.name]["us"])
    for name in chosen:
        table[name]["all"] = numbers({m: judged.combine_sequences(scored[name][m]) for m, judged in judge.items()})
        table[name]["all"]["us"] = statistics.mean(speed[name])
    for scene in [*(d.name for d in scenes), "all"]:
        print(f"\n{scene}\n{'tracker':30s}  HOTA  AssA  LocA   MOTA   IDF1  IDSW    FP     FN  Frag  us/frame")
        for name in chosen:
            t = table[name][scene]
            print(f"{name:30s} {t['HOTA']:5.2f} {t['AssA']:5.2f} {t['LocA']:5.2f} {t['MOTA']:6.2f} {t['IDF1']:6.2f} {t['IDSW']:5d} "
                  f"{t['FP']:5d} {t['FN']:6d} {t['Frag']:5d} {t['us']:9.1f}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()

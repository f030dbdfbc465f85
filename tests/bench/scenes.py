"""Synthetic scenes with known truth, as MOTChallenge files: what the trackers are compared on.

    python scenes.py OUT_DIR [--seed N]

Owns people's paths, who hides whom, and what a detector would make of it. Must not know any tracker, nor be tuned to one.

Each scene folder holds det.txt (frame,-1,x,y,w,h,score) and gt.txt (frame,id,x,y,w,h,1,1,visibility), 30 frames a
second, 1920x1080. A person counts as truth while at least a quarter of the box is visible and its centre is in the
picture.
"""

import argparse
import pathlib

import numpy as np

FPS, WIDTH, HEIGHT = 30, 1920, 1080

# n: people at once; frames; size: heights in pixels; speed: pixels a second; turn: deviation of the acceleration as a
# share of the speed per second; noise: deviation of a detected side as a share of the box; miss: share of detections
# lost at random; false: false detections a frame; posts: x of pillars that hide people; flow: "any", "two" (two streams
# against each other), "cross" (four directions).
SCENES = {
    "street": dict(n=25, frames=900, size=(120, 260), speed=(60, 180), turn=0.15, noise=0.03, miss=0.05, false=0.5, posts=[], flow="two"),
    "crossing": dict(n=40, frames=900, size=(90, 180), speed=(80, 220), turn=0.1, noise=0.03, miss=0.05, false=1.0, posts=[], flow="cross"),
    "crowd": dict(n=60, frames=900, size=(80, 160), speed=(30, 120), turn=0.4, noise=0.04, miss=0.08, false=1.5, posts=[], flow="any"),
    "posts": dict(n=30, frames=900, size=(110, 220), speed=(80, 200), turn=0.3, noise=0.03, miss=0.05, false=1.0, posts=[400, 960, 1500], flow="two"),
    "turning": dict(n=30, frames=900, size=(100, 200), speed=(100, 250), turn=1.5, noise=0.03, miss=0.05, false=1.0, posts=[960], flow="any"),
    "noisy": dict(n=40, frames=900, size=(90, 180), speed=(60, 200), turn=0.3, noise=0.07, miss=0.15, false=4.0, posts=[], flow="any"),
    "fast": dict(n=25, frames=900, size=(80, 140), speed=(300, 600), turn=0.3, noise=0.03, miss=0.05, false=1.0, posts=[], flow="cross"),
    "faces": dict(n=55, frames=900, size=(40, 90), speed=(20, 150), turn=0.5, noise=0.05, miss=0.08, false=1.5, posts=[640, 1280], flow="two"),
    "dense": dict(n=63, frames=900, size=(40, 80), speed=(20, 120), turn=0.4, noise=0.04, miss=0.06, false=1.5, posts=[], flow="any"),
}


class Person:
    """One box from its entrance to its exit."""

    def __init__(self, rng, spec, ident, at_edge):
        self.id = ident
        self.h = rng.uniform(*spec["size"])
        self.aspect = rng.uniform(0.38, 0.5) if spec["size"][0] > 60 else rng.uniform(0.7, 0.85)
        self.speed = rng.uniform(*spec["speed"])
        angle = {
            "any": rng.uniform(0, 2 * np.pi),
            "two": rng.choice([0, np.pi]) + rng.normal(0, 0.1),
            "cross": rng.integers(4) * np.pi / 2 + rng.normal(0, 0.15),
        }[spec["flow"]]
        self.v = self.speed * np.array([np.cos(angle), np.sin(angle)])
        self.p = np.array([rng.uniform(0, WIDTH), rng.uniform(100, HEIGHT - 100)])
        if at_edge:
            # Where the ray backwards leaves the picture: people walk in, they do not appear in the middle.
            back = -self.v / self.speed
            steps = [t for t in ((WIDTH - self.p[0]) / back[0] if back[0] > 0 else -self.p[0] / back[0] if back[0] < 0 else np.inf,
                                 (HEIGHT - self.p[1]) / back[1] if back[1] > 0 else -self.p[1] / back[1] if back[1] < 0 else np.inf)]
            self.p = self.p + back * (min(steps) + self.h * 0.4)
        self.growth = rng.normal(0, 0.02)
        self.phase = rng.uniform(0, 2 * np.pi)
        # A detector's confidence drifts slowly with pose and light.
        self.mood = rng.normal(0, 1)

    def step(self, rng, spec, t):
        dt = 1 / FPS
        self.v += rng.normal(0, spec["turn"] * self.speed * np.sqrt(dt), 2)
        length = np.linalg.norm(self.v)
        # A person has a pace: speed is pulled back to it, direction is free.
        self.v *= 1 + (self.speed / max(length, 1e-6) - 1) * 0.1
        self.p = self.p + self.v * dt
        self.h = float(np.clip(self.h * np.exp(self.growth * dt), 20, 400))
        self.mood += -self.mood * 1.5 * dt + np.sqrt(2 * 1.5 * dt) * rng.normal()
        sway = 0.02 * self.h * np.sin(2 * np.pi * 1.8 * t + self.phase)
        w = self.aspect * self.h
        return np.array([self.p[0] - w / 2, self.p[1] - self.h / 2 + sway, w, self.h])

    def gone(self):
        m = 0.6 * self.h
        return not (-m <= self.p[0] <= WIDTH + m and -m <= self.p[1] <= HEIGHT + m)


def covered(box, others, posts):
    """Share of a box that nearer people (lower on the picture, as from a camera above) and pillars hide, on an 8x8 raster."""
    gx = box[0] + (np.arange(8) + 0.5) / 8 * box[2]
    gy = box[1] + (np.arange(8) + 0.5) / 8 * box[3]
    hidden = np.zeros((8, 8), bool)
    for o in others:
        # A body fills the middle four fifths of its box.
        hidden |= ((gx > o[0] + 0.1 * o[2]) & (gx < o[0] + 0.9 * o[2]))[None, :] & ((gy > o[1]) & (gy < o[1] + o[3]))[:, None]
    for x in posts:
        hidden |= ((gx > x - 35) & (gx < x + 35))[None, :]
    hidden |= ((gx < 0) | (gx > WIDTH))[None, :] | ((gy < 0) | (gy > HEIGHT))[:, None]
    return hidden.mean()


def scene(spec, seed):
    rng = np.random.default_rng(seed)
    people = [Person(rng, spec, i + 1, False) for i in range(spec["n"])]
    ident = spec["n"]
    gt, det = [], []
    for frame in range(1, spec["frames"] + 1):
        boxes = [(p, p.step(rng, spec, frame / FPS)) for p in people]
        rows = []
        for p, b in boxes:
            nearer = [o for q, o in boxes if q is not p and o[1] + o[3] > b[1] + b[3]
                      and o[0] < b[0] + b[2] and b[0] < o[0] + o[2] and o[1] < b[1] + b[3]]
            visible = 1 - covered(b, nearer, spec["posts"])
            centre_in = 0 <= b[0] + b[2] / 2 <= WIDTH and 0 <= b[1] + b[3] / 2 <= HEIGHT
            if visible >= 0.25 and centre_in:
                gt.append((frame, p.id, *b, visible))
            # A detector: sure of what it sees whole, unsure of the half hidden, blind to the rest.
            if visible < 0.25 or rng.random() < spec["miss"]:
                continue
            score = float(np.clip(0.93 - 1.0 * max(0, 0.9 - visible) + 0.07 * p.mood + rng.normal(0, 0.04), 0.05, 0.99))
            sd = spec["noise"] * (1 + 1.5 * (1 - visible))
            c = np.array([b[0] + b[2] / 2, b[1] + b[3] / 2]) + rng.normal(0, sd, 2) * b[2:]
            wh = b[2:] * np.exp(rng.normal(0, sd, 2))
            rows.append((*(c - wh / 2), *wh, score))
        for _ in range(rng.poisson(spec["false"])):
            h = rng.uniform(*spec["size"])
            rows.append((rng.uniform(0, WIDTH - h), rng.uniform(0, HEIGHT - h), 0.5 * h, h, float(np.clip(rng.beta(2, 3), 0.05, 0.95))))
        for i in rng.permutation(len(rows)):
            det.append((frame, *rows[i]))
        people = [p for p in people if not p.gone()]
        while len(people) < spec["n"]:
            ident += 1
            people.append(Person(rng, spec, ident, True))
    return gt, det


def main():
    a = argparse.ArgumentParser()
    a.add_argument("out", type=pathlib.Path)
    a.add_argument("--seed", type=int, default=1)
    args = a.parse_args()
    for k, (name, spec) in enumerate(SCENES.items()):
        gt, det = scene(spec, args.seed * 1000 + k)
        d = args.out / name
        d.mkdir(parents=True, exist_ok=True)
        (d / "gt.txt").write_text("".join(f"{f},{i},{x:.2f},{y:.2f},{w:.2f},{h:.2f},1,1,{v:.2f}\n" for f, i, x, y, w, h, v in gt))
        (d / "det.txt").write_text("".join(f"{f},-1,{x:.2f},{y:.2f},{w:.2f},{h:.2f},{s:.3f}\n" for f, x, y, w, h, s in det))
        print(f"{name}: {spec['frames']} frames, {len({g[1] for g in gt})} people, {len(gt)} boxes of truth, {len(det)} detections "
              f"({len(det) / spec['frames']:.0f} a frame)")


if __name__ == "__main__":
    main()

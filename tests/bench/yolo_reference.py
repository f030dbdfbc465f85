"""YOLO beside its reference implementation: `facestream run` and Ultralytics' own prediction, on the same ONNX file and picture.

    python yolo_reference.py --assets ../../target/assets --facestream ../../target/release/facestream [--keep DIR] [--models …]

No YOLO weights come from a registry, so the script makes its own: pictures composed from the faces of the public-domain
photo of set-up (upright ones are class 0, upside-down ones class 1; five points each, found by OpenCV's YuNet), an
architecture from Ultralytics' yaml files trained on them for some minutes on the processor, and Ultralytics' exporter. The
weights are good for nothing but this comparison; with `--keep DIR` they are used again. Nothing of it is part of the
repository: Ultralytics is AGPL-3.0, it is run here as its package comes.

Both see the same pixels: the picture is made as planar 4:2:0, goes to `facestream` as a lossless video of one frame, and
to Ultralytics as the RGB that OpenCV makes of it. Pictures: one of the model's own input size (nothing is scaled), and one
of 1280x720 that both scale. A detection of one must have one of the other with IoU >= 0.99 and a score within 0.01; scores
within 0.01 of the threshold may fall to either side.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("YOLO_OFFLINE", "true")
import cv2
import numpy as np

HERE = pathlib.Path(__file__).parent
THRESHOLD = 0.25
INPUT = (640, 384)
# Name: yaml of the architecture, points, classes, arguments of the exporter.
MODELS = {
    "yolov8n-face": ("yolov8n.yaml", False, {"dynamic": True}),
    "yolov8n-face-fixed": ("yolov8n.yaml", False, {"imgsz": (INPUT[1], INPUT[0])}),
    "yolov8n-face-square": ("yolov8n.yaml", False, {"imgsz": 640}),
    "yolov8n-pose-face": ("yolov8n-pose.yaml", True, {"dynamic": True}),
    "yolo11n-face": ("yolo11n.yaml", False, {"dynamic": True}),
    "yolo11n-pose-face": ("yolo11n-pose.yaml", True, {"imgsz": 640}),
    "yolo11n-face-nms": ("yolo11n.yaml", False, {"imgsz": 640, "nms": True, "conf": THRESHOLD, "iou": 0.7}),
    "yolo12n-face": ("yolo12n.yaml", False, {"dynamic": True}),
    "yolo12n-pose-face": ("yolo12n-pose.yaml", True, {"imgsz": 640}),
    "yolo26n-face": ("yolo26n.yaml", False, {"imgsz": 640}),
    "yolo26n-pose-face": ("yolo26n-pose.yaml", True, {"imgsz": 640}),
}


def faces_of(assets):
    """Pieces of the photo around its faces: picture, box and five points inside it."""
    photo = cv2.imread(f"{assets}/clips/solvay.jpg")
    found = cv2.FaceDetectorYN.create(f"{assets}/models/yunet.onnx", "", (photo.shape[1], photo.shape[0]), 0.7, 0.3, 500)
    out = []
    for row in found.detect(photo)[1]:
        x, y, w, h = row[:4]
        points = row[4:14].reshape(5, 2)
        x0, y0, x1, y1 = (int(v) for v in (x - 0.25 * w, y - 0.3 * h, x + 1.25 * w, y + 1.2 * h))
        if min(x0, y0) < 0 or x1 > photo.shape[1] or y1 > photo.shape[0]:
            continue
        corner = np.float32([x0, y0])
        out.append((photo[y0:y1, x0:x1], np.float32([x, y, x + w, y + h]) - np.tile(corner, 2), points - corner))
    return photo, out


def scene(rng, photo, faces, width, height, sizes, count):
    """A picture with faces on a blurred piece of the photo: BGR and rows of class, box and points."""
    y, x = rng.integers(0, photo.shape[0] - 400), rng.integers(0, photo.shape[1] - 600)
    picture = cv2.GaussianBlur(cv2.resize(photo[y:y + 400, x:x + 600], (width, height)), (0, 0), 9)
    taken, rows = [], []
    for _ in range(200):
        if len(rows) == count:
            break
        patch, box, points = faces[rng.integers(len(faces))]
        scale = rng.uniform(*sizes) / (box[2] - box[0])
        patch = cv2.resize(patch, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        ph, pw = patch.shape[:2]
        if pw >= width or ph >= height:
            continue
        px, py = rng.integers(0, width - pw), rng.integers(0, height - ph)
        if any(px < a + c and a < px + pw and py < b + d and b < py + ph for a, b, c, d in taken):
            continue
        taken.append((px, py, pw, ph))
        box, points = box * scale, points * scale
        turned = int(rng.random() < 0.4)
        if turned:
            patch = patch[::-1, ::-1]
            box = np.float32([pw - box[2], ph - box[3], pw - box[0], ph - box[1]])
            points = np.float32([pw, ph]) - points
        picture[py:py + ph, px:px + pw] = patch
        rows.append((turned, box + np.float32([px, py, px, py]), points + np.float32([px, py])))
    return picture, rows


def data_set(folder, assets, pose):
    """Ultralytics' layout: pictures, label files, a yaml."""
    photo, faces = faces_of(assets)
    rng = np.random.default_rng(1)
    side = 256
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for n in range(64):
        picture, rows = scene(rng, photo, faces, side, side, (22, 70), 6)
        cv2.imwrite(str(folder / f"images/{n:03}.png"), picture)
        lines = []
        for turned, (x1, y1, x2, y2), points in rows:
            numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            if pose:
                numbers += [v for x, y in points for v in (x, y, 2 * side)]
            lines.append(" ".join([str(0 if pose else turned)] + [f"{v / side:.6f}" for v in numbers]))
        (folder / f"labels/{n:03}.txt").write_text("\n".join(lines) + "\n")
    names = "names: {0: face}\nkpt_shape: [5, 3]\nflip_idx: [1, 0, 2, 4, 3]" if pose else "names: {0: face, 1: turned}"
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\n{names}\n")
    return folder / "data.yaml"


def train(architecture, pose, keep, assets, epochs):
    """Weights of an architecture, from before if they are there."""
    from ultralytics import YOLO

    weights = keep / f"{architecture.removesuffix('.yaml')}.pt"
    if not weights.exists():
        data = data_set(keep / ("pose" if pose else "detect"), assets, pose)
        model = YOLO(architecture)
        model.train(data=str(data), epochs=epochs, imgsz=256, batch=8, device="cpu", workers=0, plots=False, val=False,
                    amp=False, optimizer="AdamW", lr0=0.002, warmup_epochs=1, mosaic=0.0, fliplr=0.0, scale=0.2, seed=0,
                    project=str(keep / "runs"), name=architecture, exist_ok=True, verbose=False, save=True)
        os.replace(keep / "runs" / architecture / "weights/last.pt", weights)
    return weights


def export(name, keep, assets, epochs):
    from ultralytics import YOLO

    file = keep / f"{name}.onnx"
    if not file.exists():
        architecture, pose, arguments = MODELS[name]
        weights = train(architecture, pose, keep, assets, epochs)
        made = YOLO(str(weights)).export(format="onnx", device="cpu", simplify=False, **arguments)
        os.replace(made, file)
    return file


def picture(assets, width, height, sizes, count):
    """Planar 4:2:0 bytes of a scene, limited range, BT.601."""
    photo, faces = faces_of(assets)
    bgr, _ = scene(np.random.default_rng(7), photo, faces, width, height, sizes, count)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).tobytes()


def theirs(file, pose, planes, width, height):
    """Ultralytics' own prediction: rows of box, score, class, points."""
    from ultralytics import YOLO

    bgr = cv2.cvtColor(np.frombuffer(planes, np.uint8).reshape(height * 3 // 2, width), cv2.COLOR_YUV2BGR_I420)
    model = YOLO(str(file), task="pose" if pose else "detect")
    size = MODELS[file.stem][2].get("imgsz", (INPUT[1], INPUT[0]))
    found = model.predict(bgr, conf=THRESHOLD, iou=0.7, imgsz=size, device="cpu", verbose=False)[0]
    points = found.keypoints.xy.cpu().numpy() if pose and found.keypoints is not None else None
    return [{"box": b.xyxy[0].tolist(), "score": float(b.conf), "class": int(b.cls),
             "landmarks": points[n].tolist() if points is not None else None} for n, b in enumerate(found.boxes)]


def ours(facestream, file, planes, width, height, folder):
    """`facestream run` on a lossless video of one frame."""
    raw, clip = folder / "one.yuv", folder / "one.mkv"
    raw.write_bytes(planes)
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-i", raw,
                    "-c:v", "ffv1", "-color_range", "tv", "-colorspace", "smpte170m", clip], check=True)
    out = subprocess.run([facestream, "run", clip, "--model", file, "--emit", "detections", "--score-threshold",
                          str(THRESHOLD), "--quiet"], check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[0])["detections"]


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])
    return inside / (area(a) + area(b) - inside)


def compare(mine, reference):
    """(pairs, worst IoU, worst score difference, worst point's distance, what has no partner beyond the threshold's edge)."""
    left, worst = list(mine), [1.0, 0.0, 0.0]
    pairs, lonely = 0, []
    edge = lambda d: abs(d["score"] - THRESHOLD) <= 0.01
    for want in sorted(reference, key=lambda d: -d["score"]):
        best = max((d for d in left if d["class"] == want["class"]), key=lambda d: iou(d["box"], want["box"]), default=None)
        if best is None or iou(best["box"], want["box"]) < 0.7:
            if not edge(want):
                lonely.append(("theirs", want))
            continue
        left.remove(best)
        pairs += 1
        worst[0] = min(worst[0], iou(best["box"], want["box"]))
        worst[1] = max(worst[1], abs(best["score"] - want["score"]))
        if want["landmarks"] and best.get("landmarks"):
            worst[2] = max(worst[2], float(np.abs(np.float32(best["landmarks"]) - np.float32(want["landmarks"])).max()))
    lonely += [("ours", d) for d in left if not edge(d)]
    return pairs, *worst, lonely


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--assets", default=str(HERE / "../../target/assets"))
    a.add_argument("--facestream", default=str(HERE / "../../target/release/facestream"))
    a.add_argument("--keep", help="folder for weights and exported models; used again when there")
    a.add_argument("--models", nargs="*", default=list(MODELS))
    a.add_argument("--epochs", type=int, default=40)
    a.add_argument("--only-train", action="store_true", help="make weights and exports, compare nothing")
    args = a.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        keep = pathlib.Path(args.keep).resolve() if args.keep else scratch / "keep"
        keep.mkdir(parents=True, exist_ok=True)
        if not args.only_train:
            print(f"{'model':22s} {'picture':>9s} ours theirs pairs  worst IoU  worst score  worst point px  agree")
        bad = 0
        for name in args.models:
            file = export(name, keep, args.assets, args.epochs)
            if args.only_train:
                continue
            pose = MODELS[name][1]
            # 640 wide for models of a square input too: the smaller side is then filled by both.
            for width, height, sizes in ((*INPUT, (24, 60)), (1280, 720, (48, 120))):
                planes = picture(args.assets, width, height, sizes, 20)
                mine = ours(args.facestream, file, planes, width, height, scratch)
                reference = theirs(file, pose, planes, width, height)
                pairs, overlap, score, point, lonely = compare(mine, reference)
                agree = overlap >= 0.99 and score <= 0.01 and not lonely and pairs > 0
                bad += not agree
                print(f"{name:22s} {width:4d}x{height:<4d} {len(mine):4d} {len(reference):6d} {pairs:5d} {overlap:10.4f} "
                      f"{score:12.5f} {point:15.3f}  {'yes' if agree else 'NO'}")
                for whose, d in lonely:
                    print(f"    only {whose}: {d}")
                sys.stdout.flush()
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

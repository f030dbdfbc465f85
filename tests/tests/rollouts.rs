//! A guest for many cameras: one that is good reaches all of them, one that is not reaches none for long, a share is exactly
//! that, and an operator may stop it. With the real program, RTSP and components.
#![allow(clippy::unwrap_used, reason = "a test: what is missing is a failure, and helpers are not seen as tests")]

use std::collections::BTreeSet;

use facestream_sim::SimConfig;
use facestream_test_support::{asset_or_skip, skip};
use facestream_tests::cameras::Cameras;
use facestream_tests::host::Host;
use facestream_tests::wait::until;
use facestream_tests::{clips, components};
use serde_json::{Value, json};

const ROLLOUTS: &str = "/api/v1/rollouts";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A tracker that works for so many frames and traps on the next one.
fn traps_after(frames: u32) -> Vec<u8> {
    components::tracker(&format!(
        "(i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (i32.const 1)))
         (if (i32.gt_u (i32.load (i32.const 4096)) (i32.const {frames})) (then (unreachable)))
         (call $ok)"
    ))
}

fn tracker(host: &Host, camera: &str) -> Value {
    host.api.get(&format!("/api/v1/cameras/{camera}/guests/tracker")).json(200)
}

/// Cameras whose tracker runs this component.
fn with(host: &Host, digest: &Value) -> BTreeSet<&'static str> {
    NAMES.into_iter().filter(|camera| tracker(host, camera)["digest"] == *digest).collect()
}

fn digest(host: &Host, guest: &str) -> Value {
    host.api.get(&format!("/api/v1/guests/{guest}")).json(200)["digest"].clone()
}

/// Begins a rollout of a tracker and gives its number.
#[track_caller]
fn begin(host: &Host, guest: &str, more: &Value) -> Value {
    let mut body = json!({ "slot": "tracker", "guest": guest });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = host.api.post(ROLLOUTS, &body);
    let begun = answer.json(202);
    assert_eq!(answer.location, format!("{ROLLOUTS}/{}", begun["id"]));
    begun["id"].clone()
}

#[track_caller]
fn rollout_until(host: &Host, id: &Value, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(&format!("the rollout: {what}"), || {
        let rollout = host.api.get(&format!("{ROLLOUTS}/{id}")).json(200);
        if wanted(&rollout) { Ok(rollout) } else { Err(rollout.to_string()) }
    })
}

#[track_caller]
fn ended(host: &Host, id: &Value, state: &str) -> Value {
    let rollout = rollout_until(host, id, "its end", |r| !r["ended_unix_ms"].is_null());
    assert_eq!(rollout["state"], state, "{rollout}");
    rollout
}

/// State of each camera, in the order of their turns.
fn states(rollout: &Value) -> Vec<(String, String)> {
    let text = |camera: &Value, field: &str| camera[field].as_str().unwrap().to_owned();
    rollout["cameras"].as_array().unwrap().iter().map(|c| (text(c, "camera"), text(c, "state"))).collect()
}

fn camera_is(rollout: &Value, camera: &str, state: &str) -> bool {
    states(rollout).iter().any(|(c, s)| (c.as_str(), s.as_str()) == (camera, state))
}

/// Changes of a camera's tracker that a rollout made, the newest first.
fn changes(host: &Host, camera: &str, id: &Value) -> Vec<(String, String)> {
    let history = host.api.get(&format!("/api/v1/cameras/{camera}/guests/tracker/history")).json(200);
    let all = history["changes"].as_array().unwrap().iter().filter(|c| c["rollout"] == *id);
    let text = |change: &Value, field: &str| change[field].as_str().unwrap().to_owned();
    all.map(|c| (text(c, "change"), text(c, "outcome"))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn audited(host: &Host, id: &Value, action: &str) -> Value {
    let entries = host.api.get("/api/v1/audit?limit=100").json(200);
    let place = format!("rollout/{id}");
    let found = entries["entries"].as_array().unwrap().iter().find(|e| e["place"] == place && e["action"] == action);
    found.unwrap_or_else(|| panic!("{action} {place}: {entries}")).clone()
}

#[test]
fn a_guest_reaches_all_cameras_or_none_and_the_share_that_was_asked_for() {
    let _ = asset_or_skip!("guests/bytetrack.wasm");
    let home = tempfile::tempdir().unwrap();
    let clip = match clips::still(home.path()) {
        Ok(clip) => clip,
        Err(why) => {
            return skip("rollouts: a_guest_reaches_all_cameras_or_none_and_the_share_that_was_asked_for", &why);
        }
    };
    let cameras = Cameras::start(&[&clip], None, SimConfig { cameras: 4, ..SimConfig::default() });
    let host = Host::start(home.path(), "");
    for (n, camera) in NAMES.into_iter().enumerate() {
        host.start_camera(camera, &cameras.url(n), &json!({ "detect_fps": 10 }));
    }
    NAMES.into_iter().for_each(|camera| drop(host.camera_runs(camera)));
    let (bytetrack, botsort) = (digest(&host, "bytetrack"), digest(&host, "botsort"));

    // A good one reaches all, two at a time.
    let id = begin(&host, "bytetrack", &json!({ "probation_frames": 5, "batch": 2, "only_from": "botsort" }));
    let rollout = ended(&host, &id, "done");
    assert_eq!((&rollout["done"], &rollout["failures"]), (&json!(4), &json!(0)), "{rollout}");
    assert!(rollout["cameras"].as_array().unwrap().iter().all(|c| c["old_digest"] == botsort), "{rollout}");
    assert_eq!(with(&host, &bytetrack), BTreeSet::from(NAMES));
    for camera in NAMES {
        assert_eq!(changes(&host, camera, &id), pairs(&[("swap", "confirmed")]));
    }
    let entry = audited(&host, &id, "rollout-end");
    assert_eq!((&entry["result"], &entry["digest"]), (&json!("done"), &bytetrack), "{entry}");
    assert_eq!(audited(&host, &id, "rollout")["result"], "done");

    // One that traps on probation stops at its first camera, which has gone back by itself.
    host.api.upload("traps", "1.0.0", &traps_after(4)).json(201);
    let wanted = json!({ "probation_frames": 20, "cameras": ["c", "a", "b", "d"] });
    let id = begin(&host, "traps", &wanted);
    let rollout = ended(&host, &id, "rolled-back");
    let expected = pairs(&[("c", "failed"), ("a", "skipped"), ("b", "skipped"), ("d", "skipped")]);
    assert_eq!(states(&rollout), expected, "{rollout}");
    assert!(rollout["reason"].as_str().unwrap().contains("unreachable"), "{rollout}");
    assert_eq!(with(&host, &bytetrack), BTreeSet::from(NAMES));
    assert_eq!(changes(&host, "c", &id), pairs(&[("swap", "rolled-back")]));
    for camera in ["a", "b", "d"] {
        assert_eq!(changes(&host, camera, &id), [], "{camera} was never touched");
        assert_eq!(tracker(&host, camera)["failures"], 0);
    }
    assert_eq!(audited(&host, &id, "rollout-end")["result"], "rolled-back");

    // One that traps after its probation, while others are at it: those that were changed go back.
    host.api.upload("traps-late", "1.0.0", &traps_after(8)).json(201);
    let id = begin(&host, "traps-late", &json!({ "probation_frames": 5, "cameras": NAMES }));
    let rollout = ended(&host, &id, "rolled-back");
    assert!(camera_is(&rollout, "a", "rolled-back") && rollout["cameras"][0]["failed"] == true, "{rollout}");
    assert_eq!(with(&host, &bytetrack), BTreeSet::from(NAMES), "{rollout}");
    assert_eq!(changes(&host, "a", &id), pairs(&[("rollback", "done"), ("swap", "confirmed")]));

    // One that uses more processor time than it may, after its probation: likewise.
    let glutton = components::tracker(
        "(i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (i32.const 1)))
         (if (i32.gt_u (i32.load (i32.const 4096)) (i32.const 8)) (then
           (local.set $i (i64.const 0))
           (loop $l
             (local.set $i (i64.add (local.get $i) (i64.const 1)))
             (br_if $l (i64.lt_u (local.get $i) (i64.const 4000000))))))
         (call $ok)",
    );
    host.api.upload("glutton", "1.0.0", &glutton).json(201);
    let limits = json!({ "deadline_ms": 250, "max_cpu_ms_per_s": 5 });
    let id = begin(&host, "glutton", &json!({ "probation_frames": 5, "cameras": NAMES, "limits": limits }));
    let rollout = ended(&host, &id, "rolled-back");
    assert!(camera_is(&rollout, "a", "rolled-back") && rollout["cameras"][0]["failed"] == true, "{rollout}");
    assert!(rollout["reason"].as_str().unwrap().contains("max_cpu_ms_per_s"), "{rollout}");
    assert_eq!(with(&host, &bytetrack), BTreeSet::from(NAMES), "{rollout}");

    // Half of them are exactly half.
    let id = begin(&host, "botsort", &json!({ "probation_frames": 3, "share": 50, "only_from": "bytetrack" }));
    let rollout = ended(&host, &id, "done");
    let chosen: BTreeSet<String> = states(&rollout).into_iter().map(|(camera, _)| camera).collect();
    assert_eq!(chosen.len(), 2, "{rollout}");
    let (new, old) = (with(&host, &botsort), with(&host, &bytetrack));
    assert_eq!(new.iter().map(|c| (*c).to_owned()).collect::<BTreeSet<_>>(), chosen);
    assert_eq!(old.len(), 2, "the others have what they had");

    // An operator stops one that would take for ever, and it goes back.
    let for_ever = json!({ "probation_frames": 1_000_000, "only_from": "botsort" });
    host.api.upload("well", "1.0.0", &components::tracker("(call $ok)")).json(201);
    let id = begin(&host, "well", &for_ever);
    rollout_until(&host, &id, "its first camera", |r| r["cameras"][0]["state"] == "probation");
    host.api.post(ROLLOUTS, &json!({ "slot": "tracker", "guest": "botsort" })).problem(
        409,
        "rollout-conflict",
        &["stop"],
    );
    host.api.delete("/api/v1/guests/well").problem(409, "guest-conflict", &[]);
    host.api.post(&format!("{ROLLOUTS}/{id}/stop"), &json!({ "roll_back": true })).json(200);
    let rollout = ended(&host, &id, "rolled-back");
    assert_eq!(rollout["reason"], "anonymous has stopped it");
    assert_eq!(with(&host, &botsort), new, "{rollout}");

    // A camera that is stopped meanwhile is left out; what is stopped without a way back stays.
    let names: Vec<&str> = new.iter().copied().collect();
    let id = begin(&host, "well", &json!({ "probation_frames": 1_000_000, "cameras": names }));
    rollout_until(&host, &id, "its first camera", |r| camera_is(r, names[0], "probation"));
    host.api.delete(&format!("/api/v1/cameras/{}", names[0]));
    rollout_until(&host, &id, "its second camera", |r| camera_is(r, names[1], "probation"));
    host.api.post(&format!("{ROLLOUTS}/{id}/stop"), &json!({ "roll_back": false })).json(200);
    let rollout = ended(&host, &id, "stopped");
    assert_eq!(states(&rollout), pairs(&[(names[0], "skipped"), (names[1], "probation")]), "{rollout}");
    assert_eq!(tracker(&host, names[1])["wanted"]["guest"], "well");

    let metrics = host.api.get("/metrics").text();
    for line in [
        "facestream_rollouts_ended_total{outcome=\"done\"} 2",
        "facestream_rollouts_ended_total{outcome=\"rolled-back\"} 4",
        "facestream_rollouts_ended_total{outcome=\"stopped\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    // What ran before was deleted: the way back is named, not a digest alone.
    let one = names[1];
    for guest in ["botsort", "well", "botsort"] {
        let at_once = json!({ "guest": guest, "probation_frames": 0 });
        host.api.put(&format!("/api/v1/cameras/{one}/guests/tracker"), &at_once).json(200);
    }
    assert_eq!(host.api.delete("/api/v1/guests/well").status, 204);
    let back = format!("/api/v1/cameras/{one}/guests/tracker/rollback");
    host.api.post(&back, &json!({})).problem(404, "unknown-guest", &["well", "was deleted", "upload it again"]);
    host.api.upload("well", "1.0.0", &components::tracker("(call $ok)")).json(201);
    assert_eq!(host.api.post(&back, &json!({})).json(200)["change"], "swapped");

    // It ends with the host, which says so, also after it was killed; cameras keep what they have.
    let last = *old.iter().next().unwrap();
    let id = begin(&host, "well", &json!({ "probation_frames": 1_000_000, "cameras": [last] }));
    rollout_until(&host, &id, "its camera", |r| camera_is(r, last, "probation"));
    host.stop();
    let host = Host::start(home.path(), "");
    let kept = host.api.get(ROLLOUTS).json(200);
    let all = kept["rollouts"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["id"], &all[0]["state"]), (8, &id, &json!("stopped")), "{kept}");
    assert!(all[0]["reason"].as_str().unwrap().contains("the host was stopped"), "{kept}");
    assert_eq!(states(&all[0]), pairs(&[(last, "skipped")]), "{kept}");
    assert!(all[0]["cameras"][0]["reason"].as_str().unwrap().contains("it keeps the guest"), "{kept}");
    assert_eq!((&all[1]["probation_frames"], &all[1]["share"]), (&json!(1_000_000), &Value::Null), "{kept}");
    let entry = audited(&host, &id, "rollout-end");
    assert!(entry["result"] == "stopped" && entry["detail"].as_str().unwrap().contains("the host"), "{entry}");
    host.camera_runs(last);
    assert_eq!(changes(&host, last, &id), pairs(&[("swap", "unknown")]));
    assert_eq!(tracker(&host, last)["guest"], "well");

    let other = *old.iter().nth(1).unwrap();
    host.camera_runs(other);
    let id = begin(&host, "well", &json!({ "probation_frames": 1_000_000, "cameras": [other] }));
    rollout_until(&host, &id, "its camera", |r| camera_is(r, other, "probation"));
    // Killed, not stopped: what is written down is that it was put in, or that this was being done.
    drop(host);
    let host = Host::start(home.path(), "");
    let rollout = host.api.get(&format!("{ROLLOUTS}/{id}")).json(200);
    assert!(rollout["cameras"][0]["reason"].as_str().unwrap().starts_with("the host ended w"), "{rollout}");
    assert_eq!((&rollout["state"], states(&rollout)), (&json!("stopped"), pairs(&[(other, "skipped")])), "{rollout}");
    host.stop();
}

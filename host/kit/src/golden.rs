//! Golden outputs: what a guest gave over the kit's scenes, kept in files and compared with what it gives later.
//!
//! Owns `<dir>/<world>-<scene>.jsonl`, one answer a line; the scenes of thousands of frames or faces are left out.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::cases::Case;
use crate::diff::difference;
use crate::kit::{Kit, KitError};
use crate::report::{CaseResult, Status};
use crate::scenes;

/// Scenes whose output would be megabytes.
const LEFT_OUT: &[&str] = &["flow", "five-hundred-faces", "busy", "leave-and-return", "long-absence"];

/// Name of the golden case.
const NAME: &str = "golden";
const REASON: &str = "a new version of a guest shows what it decides otherwise before it runs on a camera";

impl Kit {
    /// Compares the output over the scenes with the files in `dir`, or writes them anew.
    ///
    /// # Errors
    /// When a file cannot be read (other than by not being there) or written.
    pub fn golden(&self, dir: &Path, update: bool) -> Result<CaseResult, KitError> {
        let began = Instant::now();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| KitError::Golden { path, error }
        };
        if update {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        let (mut written, mut same, mut different) = (0, 0, Vec::new());
        let mut place = None;
        for (scene, _) in scenes::ALL.iter().filter(|(name, _)| !LEFT_OUT.contains(name)) {
            let path = dir.join(format!("{}-{scene}.jsonl", self.kind()));
            let now = self.text_of(scene);
            if update {
                fs::write(&path, now).map_err(at(&path))?;
                written += 1;
                continue;
            }
            let was = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    different.push(format!("{}: no such file; write it with --update-golden", path.display()));
                    continue;
                }
                Err(error) => return Err(at(&path)(error)),
            };
            match first_difference(&was, &now) {
                None => same += 1,
                Some((line, found)) => {
                    place.get_or_insert((*scene, line));
                    different.push(format!("{}:{}: {found}", path.display(), line + 1));
                }
            }
        }
        let (status, seen) = match (update, different.is_empty()) {
            (true, _) => (Status::Pass, format!("{written} files written to {}", dir.display())),
            (false, true) => (Status::Pass, format!("{same} scenes as in {}", dir.display())),
            (false, false) => (
                Status::Fail,
                format!("{} of {} scenes differ\n{}", different.len(), same + different.len(), different.join("\n")),
            ),
        };
        let reproduce = (status == Status::Fail)
            .then(|| self.again(NAME).replace(&format!("--filter {NAME}"), &format!("--golden {}", dir.display())));
        Ok(CaseResult {
            name: NAME.to_owned(),
            reason: REASON.to_owned(),
            status,
            seen,
            scene: place.map(|(scene, _)| scene.to_owned()),
            frame: place.map(|(_, line)| line),
            reproduce,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn text_of(&self, scene: &str) -> String {
        let (script, played) = (self.script(scene), self.played(scene));
        let mut text: String = played.lines(&script).into_iter().flatten().map(|line| line + "\n").collect();
        if let Some((failure, frame)) = &played.failure {
            text.push_str(&serde_json::json!({ "frame": frame, "failed": failure.kind() }).to_string());
            text.push('\n');
        }
        text
    }
}

/// The first line that differs, from 0, and how.
fn first_difference(was: &str, is: &str) -> Option<(usize, String)> {
    let (mut old, mut new) = (was.lines(), is.lines());
    for n in 0.. {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) => {
                if let Some(found) = difference(a, b) {
                    return Some((n, found));
                }
            }
            (Some(_), None) => return Some((n, format!("the output ends here, {} lines early", old.count() + 1))),
            (None, Some(_)) => return Some((n, format!("{} lines more than before", new.count() + 1))),
        }
    }
    None
}

/// The golden comparison has no place in a world's list: it needs a folder.
impl Case {
    /// Name of the comparison that [`Kit::golden`] makes.
    pub const GOLDEN: &'static str = NAME;
}

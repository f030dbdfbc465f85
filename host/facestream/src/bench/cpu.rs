//! Processor time of this process: all of it, and by what threads do, from their names.
//!
//! Owns the reading of `/proc/self`. Threads that end between two readings take their time with them; those
//! of the pipeline live as long as its cameras. Must not know cameras.

use std::collections::BTreeMap;

/// Seconds of all threads, those that have ended too.
pub(super) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    named_ticks(&stat).map_or(0.0, |(_, ticks)| ticks as f64 / TICKS_A_SECOND)
}

/// In which proc(5) counts.
const TICKS_A_SECOND: f64 = 100.0;

/// Ticks by stage.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuByStage(BTreeMap<String, u64>);

impl CpuByStage {
    /// As they are now; empty where the system has no `/proc`.
    pub(super) fn read() -> Self {
        let mut all = Self::default();
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        for stat in tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()) {
            if let Some((name, ticks)) = named_ticks(&stat) {
                *all.0.entry(stage(name).to_owned()).or_default() += ticks;
            }
        }
        all
    }

    /// Cores that each stage took since `earlier`, so many seconds ago; those that took none are left out.
    pub(super) fn cores_since(&self, earlier: &Self, seconds: f64) -> BTreeMap<String, f64> {
        let ticks = |(stage, now): (&String, &u64)| {
            let more = now.saturating_sub(earlier.0.get(stage).copied().unwrap_or(0));
            (more > 0).then(|| (stage.clone(), more as f64 / TICKS_A_SECOND / seconds))
        };
        self.0.iter().filter_map(ticks).collect()
    }
}

/// Name and ticks of a line of `stat`, a process's or a thread's: `ID (NAME) S …`, user and system time 14th and 15th.
fn named_ticks(stat: &str) -> Option<(&str, u64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((name, ticks()? + ticks()?))
}

/// What a thread of this name does.
fn stage(name: &str) -> &str {
    const STAGES: [(&str, &str); 7] = [
        ("dec-", "decoding"),
        ("infer-", "inference"),
        ("guests-", "guests, crops and messages"),
        ("guest-ticker", "guests' deadlines"),
        ("pacer", "(the benchmark's pacer)"),
        ("tokio", "service"),
        ("cuda", "CUDA's own"),
    ];
    STAGES.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("other", |(_, stage)| stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_blanks_are_read() {
        let stat = "12 (dec-a (b) c) S 1 1 1 0 -1 4194560 10 0 0 0 70 30 0 0 20 0 1 0";
        assert_eq!(named_ticks(stat), Some(("dec-a (b) c", 100)));
        assert_eq!(stage("dec-a"), "decoding");
        assert_eq!(stage("jsonl-sink"), "other");
        assert_eq!(named_ticks("12 (x) S 1"), None);
    }

    #[test]
    fn time_is_counted_by_stage() {
        let (earlier, now) = (
            CpuByStage(BTreeMap::from([("decoding".to_owned(), 100), ("other".to_owned(), 7)])),
            CpuByStage(BTreeMap::from([("decoding".to_owned(), 300), ("other".to_owned(), 7)])),
        );
        assert_eq!(now.cores_since(&earlier, 2.0), BTreeMap::from([("decoding".to_owned(), 1.0)]));
        assert!(!CpuByStage::read().0.is_empty(), "this process has threads");
    }
}

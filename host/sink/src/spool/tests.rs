//! The spool under every fault that a disk can have.

mod reading;

use std::collections::BTreeMap;
use std::time::Instant;

use facestream_core::Message;

use super::*;
use crate::codec;
use crate::tests::mem_fs::MemFs;
use crate::tests::message;

const DIR: &str = "/spool";
const SMALL: Limits = Limits { segment_bytes: 1000, max_bytes: 1 << 20 };

fn open(fs: &MemFs, limits: Limits) -> (Arc<Spool>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let spool = Spool::open(Arc::new(fs.clone()), Path::new(DIR), limits, Arc::clone(&counters)).unwrap();
    (spool, counters)
}

fn append(spool: &Spool, n: u64) -> Result<u64, AppendError> {
    let mut buffer = Spool::buffer(0);
    codec::encode(&message(n, 100), &mut buffer);
    spool.append(buffer, n)
}

/// Everything that can be read, as the numbers in the messages.
fn read_all(reader: &mut Reader) -> Vec<u64> {
    std::iter::from_fn(|| reader.next(Instant::now()).unwrap()).map(|r| number(&r.message)).collect()
}

fn number(m: &Message) -> u64 {
    m.id.0.split('/').nth(2).unwrap().parse().unwrap()
}

fn lost(counters: &Counters) -> BTreeMap<&'static str, u64> {
    counters.status("", crate::status::SinkState::Ok).lost
}

fn segments(fs: &MemFs) -> Vec<PathBuf> {
    fs.paths().into_iter().filter(|p| p.extension().is_some_and(|e| e == "seg")).collect()
}

#[test]
fn what_is_appended_is_read_in_order_and_deleted_when_done() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    assert!(reader.next(Instant::now()).unwrap().is_none());
    for n in 0..20 {
        assert_eq!(append(&spool, n).unwrap(), n);
    }
    assert!(segments(&fs).len() > 2);
    assert_eq!(spool.held().messages, 20);
    assert_eq!(read_all(&mut reader), (0..20).collect::<Vec<_>>());
    append(&spool, 20).unwrap();
    let last = reader.next(Instant::now()).unwrap().unwrap();
    assert_eq!((number(&last.message), last.seq), (20, 20));
    assert_eq!(reader.read(last.location).unwrap(), last.message);
    assert_eq!((spool.held().messages, spool.held().oldest_ms), (21, Some(0)));
    for seq in (0..21).rev() {
        assert!(spool.done(seq));
        assert!(!spool.done(seq), "only once");
    }
    spool.close().unwrap();
    assert_eq!(segments(&fs), Vec::<PathBuf>::new());
    assert_eq!(spool.held(), Held::default());
    assert_eq!(lost(&counters), BTreeMap::new());
    // Numbers go on where they were: a record is never taken for another one.
    drop((spool, reader));
    let (spool, counters) = open(&fs, SMALL);
    assert_eq!(append(&spool, 21).unwrap(), 21);
    assert_eq!((spool.recovered(), lost(&counters)), (0, BTreeMap::new()));
}

#[test]
fn a_restart_reads_what_was_not_done_again_and_nothing_else() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..30).for_each(|n| assert!(append(&spool, n).is_ok()));
    read_all(&mut reader);
    (0..12).for_each(|seq| assert!(spool.done(seq)));
    spool.done(20);
    spool.tick().unwrap();
    let (again, counters) = open(&fs.after_kill(), SMALL);
    assert_eq!(again.recovered(), 18);
    let mut reader = Reader::new(Arc::clone(&again));
    // 20 was done out of order: it comes again, which is allowed.
    assert_eq!(read_all(&mut reader), (12..30).collect::<Vec<_>>());
    assert_eq!(lost(&counters), BTreeMap::new());
    (12..30).for_each(|seq| assert!(again.done(seq)));
    again.close().unwrap();
    assert_eq!(again.held(), Held::default());
}

#[test]
fn going_back_reads_only_what_is_not_done() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..30).for_each(|n| assert!(append(&spool, n).is_ok()));
    read_all(&mut reader);
    (0..5).for_each(|seq| assert!(spool.done(seq)));
    spool.done(17);
    spool.tick().unwrap();
    reader.rewind();
    let expected: Vec<u64> = (5..30).filter(|&n| n != 17).collect();
    assert_eq!(read_all(&mut reader), expected);
    let held = spool.held();
    reader.rewind();
    assert_eq!(read_all(&mut reader), expected);
    assert_eq!((spool.held(), held.messages), (held, 24), "going back counts nothing twice");
    expected.iter().for_each(|&seq| assert!(spool.done(seq)));
    reader.rewind();
    assert_eq!(read_all(&mut reader), [0; 0]);
    append(&spool, 30).unwrap();
    assert_eq!(read_all(&mut reader), [30]);
    assert_eq!(lost(&counters), BTreeMap::new());
}

#[test]
fn two_processes_cannot_share_it() {
    let fs = MemFs::default();
    let (_spool, _) = open(&fs, SMALL);
    let second = Spool::open(Arc::new(fs.clone()), Path::new(DIR), SMALL, Arc::default());
    assert!(matches!(second, Err(OpenError::InUse(_))));
}

#[test]
fn a_full_spool_refuses_the_newest_and_takes_again_when_there_is_room() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, Limits { segment_bytes: 1000, max_bytes: 4000 });
    let mut reader = Reader::new(Arc::clone(&spool));
    let taken = (0..100).take_while(|&n| append(&spool, n).is_ok()).count() as u64;
    assert!(matches!(append(&spool, 0), Err(AppendError::Full { .. })));
    assert!((10..30).contains(&taken));
    assert_eq!(read_all(&mut reader), (0..taken).collect::<Vec<_>>());
    (0..taken / 2).for_each(|seq| assert!(spool.done(seq)));
    spool.tick().unwrap();
    assert!(append(&spool, 500).is_ok());
    assert_eq!(read_all(&mut reader), [500]);
}

#[test]
fn a_full_disk_refuses_and_leaves_nothing_half() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    append(&spool, 0).unwrap();
    for space in [0, 1, 31, 32, 100] {
        fs.set_space(Some(space));
        assert!(matches!(append(&spool, 99), Err(AppendError::Io { .. })), "{space}");
        fs.set_space(None);
        append(&spool, space).unwrap();
    }
    assert_eq!(read_all(&mut reader), [0, 0, 1, 31, 32, 100]);
    let (again, counters) = open(&fs.after_kill(), SMALL);
    assert_eq!(read_all(&mut Reader::new(again)), [0, 0, 1, 31, 32, 100]);
    assert_eq!(lost(&counters), BTreeMap::new());
}

/// Kills the process, or cuts the power, at every call that changes something, and checks what is left.
#[test]
fn a_crash_at_any_call_loses_nothing_that_was_promised() {
    for power_cut in [false, true] {
        for calls in 0.. {
            let fs = MemFs::default();
            let (spool, _) = open(&fs, SMALL);
            fs.die_after(calls);
            let (mut accepted, mut synced, mut done) = (Vec::new(), Vec::new(), Vec::new());
            let mut reader = Reader::new(Arc::clone(&spool));
            let mut finished = true;
            for n in 0..24 {
                match append(&spool, n) {
                    Ok(_) => accepted.push(n),
                    Err(_) => finished = false,
                }
                if n % 4 == 3 {
                    let before = accepted.clone();
                    match spool.tick() {
                        Ok(()) => synced = before,
                        Err(_) => finished = false,
                    }
                }
                if n % 5 == 4 {
                    while let Ok(Some(record)) = reader.next(Instant::now()) {
                        if number(&record.message) % 8 != 7 {
                            spool.done(record.seq);
                            done.push(number(&record.message));
                        }
                    }
                }
            }
            let left = if power_cut { fs.after_power_cut() } else { fs.after_kill() };
            let (again, counters) = open(&left, SMALL);
            let found = read_all(&mut Reader::new(Arc::clone(&again)));
            let promised = if power_cut { &synced } else { &accepted };
            for n in promised.iter().filter(|n| !done.contains(n)) {
                assert!(found.contains(n), "call {calls}, power cut {power_cut}: {n} is gone; found {found:?}");
            }
            assert!(found.is_sorted(), "in order: {found:?}");
            assert!(found.iter().all(|n| *n < 24), "nothing made up");
            let lost = lost(&counters);
            if !power_cut {
                assert!(lost.keys().all(|&k| k == "torn-tail"), "call {calls}: {lost:?}");
            }
            // And it works on.
            append(&again, 77).unwrap();
            let mut reader = Reader::new(again);
            assert_eq!(read_all(&mut reader).last(), Some(&77));
            if finished {
                assert!(calls > 50, "the loop has met every call");
                break;
            }
        }
    }
}

/// Cuts the newest segment at every byte of its last two records.
#[test]
fn a_tail_cut_anywhere_loses_only_what_was_cut() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, Limits { segment_bytes: 100_000, ..SMALL });
    (0..5).for_each(|n| assert!(append(&spool, n).is_ok()));
    let path = segments(&fs)[0].clone();
    let size = fs.read(&path).unwrap().len();
    let record = size / 5;
    for cut in size - 2 * record..=size {
        let left = fs.after_kill();
        left.cut(&path, cut);
        let (again, counters) = open(&left, SMALL);
        let whole = (cut / record) as u64;
        assert_eq!(read_all(&mut Reader::new(Arc::clone(&again))), (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        let torn = u64::from(cut % record != 0);
        assert_eq!(lost(&counters).get("torn-tail").copied().unwrap_or(0), torn, "cut at {cut}");
        let quarantined = left.paths().iter().filter(|p| p.starts_with("/spool/quarantine")).count() as u64;
        assert_eq!(quarantined, torn);
        assert_eq!(append(&again, 50).unwrap(), whole, "numbers go on");
    }
}

/// Flips a bit of every byte of a segment in turn: one record is lost and counted, all others arrive.
#[test]
fn a_flipped_bit_loses_one_record_and_it_is_counted_and_kept() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    (0..15).for_each(|n| assert!(append(&spool, n).is_ok()));
    spool.tick().unwrap();
    let paths = segments(&fs);
    assert!(paths.len() >= 3);
    for path in &paths {
        for at in 0..fs.read(path).unwrap().len() {
            let damaged = fs.after_kill();
            damaged.flip(path, at);
            let (again, counters) = open(&damaged, SMALL);
            let found = read_all(&mut Reader::new(Arc::clone(&again)));
            assert_eq!(found.len(), 14, "{path:?} byte {at}: {found:?}");
            assert_eq!(lost(&counters).values().sum::<u64>(), 1, "{path:?} byte {at}: {:?}", lost(&counters));
            assert!(damaged.paths().iter().any(|p| p.starts_with("/spool/quarantine")));
            found.iter().for_each(|&n| assert!(again.done(n)));
            again.close().unwrap();
            assert_eq!(segments(&damaged), Vec::<PathBuf>::new(), "damage does not keep a segment alive");
        }
    }
}

#[test]
fn damage_while_running_is_stepped_over_too() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..15).for_each(|n| assert!(append(&spool, n).is_ok()));
    let paths = segments(&fs);
    fs.flip(&paths[0], 40);
    fs.cut(paths.last().unwrap(), 3);
    let found = read_all(&mut reader);
    let last_segment = paths.last().unwrap().file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(found, (1..last_segment).collect::<Vec<_>>());
    append(&spool, 99).unwrap();
    assert_eq!(read_all(&mut reader), [99]);
    assert_eq!(lost(&counters)["spool-corrupt"], 1 + 15 - last_segment);
    reader.rewind();
    assert_eq!(read_all(&mut reader).len(), found.len() + 1, "going back counts nothing twice");
    assert_eq!(lost(&counters)["spool-corrupt"], 1 + 15 - last_segment);
}

#[test]
fn missing_files_are_counted_to_the_record() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    (0..15).for_each(|n| assert!(append(&spool, n).is_ok()));
    spool.tick().unwrap();
    let paths = segments(&fs);
    for (i, path) in paths.iter().enumerate() {
        let damaged = fs.after_kill();
        damaged.delete(path);
        let (again, counters) = open(&damaged, SMALL);
        let found = read_all(&mut Reader::new(again));
        let lost: u64 = lost(&counters).values().sum();
        if i + 1 < paths.len() {
            assert_eq!(found.len() as u64 + lost, 15, "segment {i}");
        }
        assert!(found.len() < 15);
    }
    // The checkpoint alone: everything is read again, nothing is lost.
    let damaged = fs.after_kill();
    damaged.delete(Path::new("/spool/checkpoint"));
    let (again, counters) = open(&damaged, SMALL);
    assert_eq!((read_all(&mut Reader::new(again)).len(), lost(&counters)), (15, BTreeMap::new()));
    // A segment that goes while we run.
    let (running, counters) = open(&fs.after_kill(), SMALL);
    let mut reader = Reader::new(Arc::clone(&running));
    let first = reader.next(Instant::now()).unwrap().unwrap();
    assert_eq!(first.seq, 0);
    drop(running);
    assert_eq!(lost(&counters), BTreeMap::new());
}

#[test]
fn a_failed_sync_is_told_and_made_up_for() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    let seq = append(&spool, 1).unwrap();
    fs.fail_syncs(true);
    assert!(spool.sync_through(seq).is_err());
    assert!(spool.tick().is_err());
    fs.fail_syncs(false);
    spool.sync_through(seq).unwrap();
    let (again, _) = open(&fs.after_power_cut(), SMALL);
    assert_eq!(read_all(&mut Reader::new(again)), [1]);
}

#[test]
fn what_is_done_is_deleted_by_a_later_try_when_the_checkpoint_could_not_be_saved() {
    for closed in [false, true] {
        let fs = MemFs::default();
        let (spool, counters) = open(&fs, SMALL);
        let mut reader = Reader::new(Arc::clone(&spool));
        (0..20).for_each(|n| assert!(append(&spool, n).is_ok()));
        read_all(&mut reader);
        spool.tick().unwrap();
        let before = segments(&fs);
        (0..15).for_each(|seq| assert!(spool.done(seq)));
        fs.fail_syncs(true);
        // Nothing waits to be synced: what fails is the checkpoint.
        assert!(spool.tick().is_err());
        assert_eq!(segments(&fs), before, "nothing goes before the checkpoint is safe");
        fs.fail_syncs(false);
        spool.tick().unwrap();
        assert!(segments(&fs).len() < before.len());
        let on_disk: usize = segments(&fs).iter().map(|p| fs.read(p).unwrap().len()).sum();
        assert_eq!(spool.held().disk_bytes, on_disk as u64);
        (15..20).for_each(|seq| assert!(spool.done(seq)));
        if closed {
            fs.fail_syncs(true);
            assert!(spool.close().is_err());
            fs.fail_syncs(false);
            let (again, _) = open(&fs, SMALL);
            assert_eq!((again.recovered(), again.held()), (0, Held::default()), "it is nobody's, and lost nothing");
        } else {
            spool.close().unwrap();
            assert_eq!(spool.held(), Held::default());
        }
        assert_eq!((segments(&fs), lost(&counters)), (Vec::new(), BTreeMap::new()));
    }
}

#[test]
fn a_full_disk_does_not_keep_what_is_done() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..20).for_each(|n| assert!(append(&spool, n).is_ok()));
    fs.set_space(Some(0));
    read_all(&mut reader);
    for done in [0..10, 10..20] {
        done.for_each(|seq| assert!(spool.done(seq)));
        let before = segments(&fs).len();
        spool.tick().unwrap();
        assert!(segments(&fs).len() < before);
    }
    spool.close().unwrap();
    assert_eq!((segments(&fs), spool.held()), (Vec::new(), Held::default()));
}

#[test]
fn a_segment_that_cannot_be_synced_goes_when_it_is_done_and_is_forgotten() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..20).for_each(|n| assert!(append(&spool, n).is_ok()));
    read_all(&mut reader);
    fs.fail_syncs_of(&segments(&fs)[0]);
    assert!(spool.tick().is_err());
    (0..20).for_each(|seq| assert!(spool.done(seq)));
    assert!(spool.tick().is_err(), "it is told as long as it is there");
    assert_eq!(segments(&fs).len(), 0);
    spool.tick().unwrap();
}

#[test]
fn many_threads_may_append_and_wait_for_syncs() {
    let fs = MemFs::default();
    let (spool, _) = open(&fs, SMALL);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let spool = &spool;
            scope.spawn(move || {
                for n in 0..50 {
                    let seq = append(spool, t * 50 + n).unwrap();
                    spool.sync_through(seq).unwrap();
                }
            });
        }
    });
    let mut found = read_all(&mut Reader::new(spool));
    found.sort_unstable();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, ..Default::default() })]

    /// Segments with anything in them: no panic, no endless loop, no message made up, and the spool works on.
    #[test]
    fn hostile_segments_are_survived(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        at in 0usize..800,
        second: Vec<u8>,
        checkpoint in proptest::collection::vec(proptest::num::u8::ANY, 0..48),
    ) {
        let fs = MemFs::default();
        let (spool, _) = open(&fs, Limits { segment_bytes: 100_000, ..SMALL });
        (0..4).for_each(|n| assert!(append(&spool, n).is_ok()));
        drop(spool);
        let path = segments(&fs)[0].clone();
        let mut bytes = fs.read(&path).unwrap();
        let at = at.min(bytes.len());
        bytes.splice(at..at, noise);
        fs.write(&path, &bytes);
        fs.write(Path::new("/spool/00000000000000000100.seg"), &second);
        fs.write(Path::new("/spool/checkpoint"), &checkpoint);
        let (again, _) = open(&fs, SMALL);
        let found = read_all(&mut Reader::new(Arc::clone(&again)));
        proptest::prop_assert!(found.iter().all(|&n| n < 4));
        proptest::prop_assert!(found.len() >= 3, "one record at most was cut in two: {:?}", found);
        append(&again, 9).unwrap();
        let mut reader = Reader::new(again);
        let found = read_all(&mut reader);
        proptest::prop_assert_eq!(found.last(), Some(&9));
    }
}

//! Disks that do not give what they hold: for a moment, for minutes, or for want of something else.

use std::time::Duration;

use super::*;

#[test]
fn a_segment_that_cannot_be_read_is_given_up_after_minutes() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..3).for_each(|n| assert!(append(&spool, n).is_ok()));
    let start = Instant::now();
    fs.fail_reads(true);
    for second in 0..300 {
        assert!(reader.next(start + Duration::from_secs(second)).is_err());
    }
    // For a moment it works: the time begins anew.
    fs.fail_reads(false);
    assert_eq!(number(&reader.next(start).unwrap().unwrap().message), 0);
    reader.rewind();
    fs.fail_reads(true);
    for second in 300..600 {
        assert!(reader.next(start + Duration::from_secs(second)).is_err());
    }
    assert_eq!(lost(&counters), BTreeMap::new());
    assert!(reader.next(start + Duration::from_secs(600)).unwrap().is_none());
    fs.fail_reads(false);
    assert_eq!(lost(&counters)["spool-missing"], 3, "also the one that was read before going back");
    append(&spool, 3).unwrap();
    assert_eq!(read_all(&mut reader), [3]);
    spool.done(3);
    assert!(!spool.done(0), "nothing waits for it");
    spool.close().unwrap();
    assert_eq!((segments(&fs).len(), spool.held().messages), (0, 0));
}

#[test]
fn a_process_short_of_files_or_memory_loses_nothing_however_long_it_lasts() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    (0..20).for_each(|n| assert!(append(&spool, n).is_ok()));
    let start = Instant::now();
    for error in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        fs.fail_opens(Some(error));
        for minute in 0..100 {
            assert!(reader.next(start + Duration::from_secs(60 * minute)).is_err());
        }
    }
    fs.fail_opens(None);
    assert_eq!((read_all(&mut reader), lost(&counters)), ((0..20).collect(), BTreeMap::new()));
}

#[test]
fn a_segment_sealed_without_a_record_does_not_take_the_next_one_along() {
    let fs = MemFs::default();
    let (spool, counters) = open(&fs, SMALL);
    let mut reader = Reader::new(Arc::clone(&spool));
    fs.set_space(Some(0));
    assert!(append(&spool, 0).is_err());
    fs.set_space(None);
    spool.lock().seal();
    assert!(append(&spool, 0).is_ok());
    spool.tick().unwrap();
    assert_eq!((segments(&fs).len(), spool.lock().segments.len()), (1, 1), "the file that is written to");
    assert_eq!((read_all(&mut reader), lost(&counters)), (vec![0], BTreeMap::new()));
    spool.done(0);
    spool.close().unwrap();
    assert_eq!(segments(&fs).len(), 0);
}

//! What is put by on disk, and comes back.

use std::{fs, path::Path, sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    config,
    fake::{Fake, Outcome},
    ids, offer, request, start,
};
use crate::{
    config::PredictionLogConfig,
    prediction_log::{PredictionLog, Reason},
};

/// Names of the files, in order.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
    let mut names: Vec<String> = entries.map_or_else(|_| Vec::new(), Iterator::collect);
    names.sort_unstable();
    names
}

fn dropped(log: &PredictionLog) -> Vec<(Reason, u64)> {
    log.counters().dropped().filter(|(_, rows)| *rows > 0).collect()
}

/// Batches of 10 rows, one a second.
async fn offer_batches(log: &PredictionLog, range: std::ops::Range<usize>) {
    for batch in range {
        offer(log, 10 * batch..10 * batch + 10);
        sleep(Duration::from_millis(1100)).await;
    }
}

/// Leaves batches of 10 rows in the folder.
async fn leave(folder: &Path, batches: usize) {
    let (log, running) = start(&config(), &Fake::that(Outcome::Away), folder);
    offer_batches(&log, 0..batches).await;
    running.stop(Instant::now()).await;
    assert_eq!(files(folder).len(), batches);
}

#[tokio::test(start_paused = true)]
async fn while_clickhouse_is_away_batches_go_to_disk_and_come_back_oldest_first() {
    let (sink, folder) = (Fake::that(Outcome::Away), tempfile::tempdir().unwrap());
    let (log, _running) = start(&config(), &sink, folder.path());
    offer_batches(&log, 0..30).await;
    assert_eq!((files(folder.path()).len(), log.counters().waiting.load(Ordering::Relaxed)), (30, 0));
    let (rows, bytes, _) = log.on_disk();
    let size: u64 = files(folder.path()).iter().map(|f| folder.path().join(f).metadata().unwrap().len()).sum();
    assert_eq!((rows, bytes), (300, size));
    sink.does(Outcome::Take);
    offer_batches(&log, 30..45).await;
    assert_eq!(sink.ids(), ids(0..450));
    assert_eq!((files(folder.path()).len(), log.on_disk(), log.problem()), (0, (0, 0, 0), None));
    let c = log.counters();
    let counts = [&c.offered, &c.written, &c.spilled, &c.replayed].map(|n| n.load(Ordering::Relaxed));
    assert!(counts[0] == 450 && counts[1] == 450 && counts[2] >= 300 && counts[2] == counts[3], "{counts:?}");
    assert_eq!(dropped(&log), []);
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_disk_and_memory_hold_and_what_is_beyond_is_counted() {
    let (sink, folder) = (Fake::that(Outcome::Away), tempfile::tempdir().unwrap());
    leave(folder.path(), 1).await;
    let one = folder.path().join(&files(folder.path())[0]).metadata().unwrap().len();
    fs::remove_file(folder.path().join(&files(folder.path())[0])).unwrap();
    // Ids have up to three digits more.
    let config = PredictionLogConfig { buffer_rows: 100, spill_bytes: 3 * (one + 30), ..config() };
    let (log, _running) = start(&config, &sink, folder.path());
    offer_batches(&log, 0..20).await;
    assert_eq!((files(folder.path()).len(), dropped(&log)), (3, vec![(Reason::SpillFull, 70)]));
    sink.does(Outcome::Take);
    sleep(Duration::from_secs(12)).await;
    assert_eq!((sink.ids(), dropped(&log)), (ids(0..130), vec![(Reason::SpillFull, 70)]));
    // Once there is room again, a full memory is what it is.
    sink.does(Outcome::Hang);
    offer(&log, 0..101);
    assert_eq!(dropped(&log), [(Reason::BufferFull, 1), (Reason::SpillFull, 70)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_writes_what_waits() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let (log, running) = start(&config(), &sink, folder.path());
    log.offer(request("a", 15_000));
    offer(&log, 0..5);
    sleep(Duration::from_millis(60)).await;
    offer(&log, 5..10);
    running.stop(Instant::now() + Duration::from_secs(20)).await;
    assert_eq!((sink.ids().len(), files(folder.path()).len()), (15_010, 0));
    offer(&log, 10..13);
    assert_eq!((dropped(&log), log.counters().waiting.load(Ordering::Relaxed)), (vec![(Reason::Stopped, 3)], 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_puts_by_what_clickhouse_does_not_take_and_the_next_process_sends_it() {
    for (outcome, grace) in [(Outcome::Away, 20), (Outcome::Hang, 2), (Outcome::LoseAnswer, 20), (Outcome::Take, 0)] {
        let (sink, folder) = (Fake::that(outcome), tempfile::tempdir().unwrap());
        let (log, running) = start(&config(), &sink, folder.path());
        offer(&log, 0..10);
        let (began, grace) = (Instant::now(), Duration::from_secs(grace));
        running.stop(began + grace).await;
        assert!(began.elapsed() <= grace + Duration::from_millis(10), "{outcome:?}");
        assert_eq!(files(folder.path()).len(), 1, "{outcome:?}");
        sink.does(Outcome::Take);
        let (log, _running) = start(&config(), &sink, folder.path());
        offer(&log, 10..20);
        sleep(Duration::from_secs(3)).await;
        assert_eq!((sink.ids(), files(folder.path()).len()), (ids(0..20), 0), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_room_on_disk_tries_until_its_time_is_over() {
    let none = PredictionLogConfig { spill_bytes: 0, ..config() };
    for (failures, lost) in [(3, vec![]), (1000, vec![(Reason::SpillFull, 10)])] {
        let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
        sink.state().script.extend([Outcome::Away].repeat(failures));
        let (log, running) = start(&none, &sink, folder.path());
        offer(&log, 0..10);
        running.stop(Instant::now() + Duration::from_secs(20)).await;
        assert_eq!((sink.ids().len(), dropped(&log)), (10 - 10 * lost.len(), lost));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_broken_off_puts_by_at_once() {
    let (sink, folder) = (Fake::that(Outcome::Hang), tempfile::tempdir().unwrap());
    let (log, running) = start(&config(), &sink, folder.path());
    offer(&log, 0..10);
    let began = Instant::now();
    let stop = running.stop(began + Duration::from_secs(20));
    assert!(tokio::time::timeout(Duration::from_secs(1), stop).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!((files(folder.path()).len(), began.elapsed() < Duration::from_secs(2)), (1, true));
}

#[test]
fn a_log_that_is_dropped_loses_nothing() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let (log, running) = PredictionLog::start(&config(), std::sync::Arc::new(sink.clone()), folder.path()).unwrap();
    offer(&log, 0..10);
    drop(running);
    let kept = files(folder.path());
    assert_eq!((kept.len(), sink.ids().len()), (1, 0), "{kept:?}");
    let file = fs::read(folder.path().join(&kept[0])).unwrap();
    let start = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(super::fake::decode(&file[start..]).len(), 10);
    // Readable by nobody else.
    let mode = std::os::unix::fs::PermissionsExt::mode(&folder.path().join(&kept[0]).metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn damaged_batches_are_set_aside_and_the_others_sent() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path(), 5).await;
    let names = files(folder.path());
    let edit = |name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    edit(&names[0], &|bytes| bytes.truncate(bytes.len() - 1));
    edit(&names[2], &|bytes| *bytes.last_mut().unwrap() ^= 1);
    edit(&names[3], &|bytes| bytes[0] = b'x');
    // What a crash cut short, and a file that is none of ours.
    fs::write(folder.path().join(".000000000009-00"), "half").unwrap();
    fs::write(folder.path().join("note.txt"), "hello").unwrap();
    let sink = Fake::default();
    let (log, _running) = start(&config(), &sink, folder.path());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sink.ids(), [ids(10..20), ids(40..50)].concat());
    // The rows of the third cannot be told: its first line is gone.
    assert_eq!(dropped(&log), [(Reason::Unreadable, 20)]);
    let aside = |i: usize| names[i].replace(".rows", ".unreadable");
    assert_eq!(files(folder.path()), [aside(0), aside(2), aside(3), "note.txt".to_owned()]);
    let (rows, bytes, set_aside) = log.on_disk();
    assert!(rows == 0 && bytes == 0 && set_aside > 1000, "{set_aside}");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_refuses_everything_loses_nothing_and_is_told() {
    let (sink, folder) = (Fake::that(Outcome::Refuse), tempfile::tempdir().unwrap());
    let (log, _running) = start(&config(), &sink, folder.path());
    offer_batches(&log, 0..20).await;
    assert!(log.problem().unwrap().contains("run `aibuyer-server migrate`"), "{:?}", log.problem());
    assert_eq!((files(folder.path()).len(), dropped(&log)), (20, vec![]));
    sink.does(Outcome::Take);
    sleep(Duration::from_secs(20)).await;
    let mut found = sink.ids();
    found.sort_unstable_by_key(|id| id[1..].parse::<usize>().unwrap());
    assert_eq!((found, dropped(&log), log.problem()), (ids(0..200), vec![], None));
}

#[tokio::test(start_paused = true)]
async fn one_batch_that_is_refused_holds_up_no_other() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    sink.state().poison = Some("r15".to_owned());
    let (log, _running) = start(&config(), &sink, folder.path());
    offer_batches(&log, 0..10).await;
    sleep(Duration::from_secs(10)).await;
    let mut found = sink.ids();
    found.sort_unstable_by_key(|id| id[1..].parse::<usize>().unwrap());
    assert_eq!(found, [ids(0..10), ids(20..100)].concat());
    assert_eq!((dropped(&log), log.problem()), (vec![(Reason::Refused, 10)], None));
    let names = files(folder.path());
    assert!(names.len() == 1 && names[0].ends_with(".refused"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_leaves_rows_in_memory() {
    let (sink, folder) = (Fake::that(Outcome::Away), tempfile::tempdir().unwrap());
    // A file where the folder should be.
    let path = folder.path().join("log");
    fs::write(&path, "").unwrap();
    let (log, _running) = start(&config(), &sink, &path);
    offer_batches(&log, 0..5).await;
    assert_eq!((log.counters().waiting.load(Ordering::Relaxed), dropped(&log)), (50, vec![]));
    fs::remove_file(&path).unwrap();
    sleep(Duration::from_secs(11)).await;
    assert_eq!((files(&path).len(), log.counters().waiting.load(Ordering::Relaxed)), (5, 0));
    sink.does(Outcome::Take);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(sink.ids(), ids(0..50));
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_from_memory_does_not_go_to_disk_meanwhile() {
    let (sink, folder) = (Fake::that(Outcome::Away), tempfile::tempdir().unwrap());
    let path = folder.path().join("log");
    fs::write(&path, "").unwrap();
    let (log, _running) = start(&config(), &sink, &path);
    offer_batches(&log, 0..3).await;
    // The disk is tried again while an insert is under way that will succeed.
    fs::remove_file(&path).unwrap();
    sink.does(Outcome::Slow);
    sleep(Duration::from_secs(90)).await;
    assert_eq!((sink.ids(), dropped(&log)), (ids(0..30), vec![]));
    assert_eq!((log.on_disk().0, log.counters().waiting.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(log.counters().written.load(Ordering::Relaxed), 30);
}

//! The process is killed while it writes: whatever it had answered by then is there afterwards.
//!
//! This shows that answers follow commits. That commits follow the disk is up to SQLite and its
//! `synchronous = FULL`, which `files.rs` looks at.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use jmp_store::{AuditQuery, AuditSink, SqliteStore, Store, StoreExt, Write, inspect};
use jmp_types::resource::{Exporter, Kind};

use crate::content::{PATIENCE, audit, exporter, key, open};

const ROUNDS: u32 = 10;
/// Tells the child which file is meant.
const FILE: &str = "JMP_STORE_TEST_FILE";
/// Objects that every writer of the child takes turns with.
const OBJECTS: u64 = 7;
const WRITERS: u64 = 4;

/// What the child answered: the last count of each object, or that it was deleted, and audit numbers.
#[derive(Default)]
struct Ledger {
    counts: BTreeMap<String, Option<u64>>,
    last_audit: u64,
    answers: u64,
}

#[test]
fn what_was_answered_survives() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        // The same moments in every run of the test; every fourth lies somewhere in the opening of the file.
        let time = Duration::from_millis(u64::from(round * 61 % 200));
        kill_after(&path, time, round % 4 != 3, &mut ledger);
        compare(&path, &ledger);
    }
    println!("{} answers, all of them kept", ledger.answers);
    assert!(
        ledger.answers > u64::from(ROUNDS),
        "{} answers are no test",
        ledger.answers
    );
}

/// Starts the child, lets it write for that time, kills it, and reads all that it had answered. The time counts
/// from the start, or from its first words.
fn kill_after(path: &Path, time: Duration, from_first_words: bool, ledger: &mut Ledger) {
    let mut child = Command::new(env::current_exe().expect("the test itself"))
        .args(["--exact", "killed::the_child", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("is piped"));
    let (words, first_words) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            if line.starts_with("put") || line.starts_with("deleted") {
                // Nobody listens after the first.
                words.send(()).ok();
            }
            lines.push(line);
        }
        lines
    });
    let spoke = !from_first_words || first_words.recv_timeout(PATIENCE).is_ok();
    std::thread::sleep(time);
    child.kill().expect("is killed");
    child.wait().expect("is gone");
    let lines = reader.join().expect("reads");
    assert!(spoke, "the child said no more than {lines:?}");
    for line in lines {
        ledger.add(&line);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn compare(path: &Path, ledger: &Ledger) {
    let store = open(path);
    for (name, count) in &ledger.counts {
        let found: Option<Exporter> = store.get(&key(name)).await.expect("is read");
        let found = found.map(|found| found.metadata.generation);
        // One write more may have come to pass without an answer: the next count, or the deletion.
        let next = count.map_or(Some(0), |count| Some(count + 1));
        let fits =
            found == *count || found == next || found.is_none() && count.is_some_and(is_last);
        assert!(fits, "{name}: answered {count:?}, found {found:?}");
    }
    let newest = AuditQuery {
        limit: 1,
        ..AuditQuery::default()
    };
    let newest = store.list_audit(newest).await.expect("is read").records;
    let newest = newest.first().map_or(0, |record| record.number);
    assert!(
        newest >= ledger.last_audit,
        "answered {}, found {newest}",
        ledger.last_audit
    );
    store.close().await;
    inspect(path).expect("the file is whole");
}

/// Objects are deleted when they have come so far.
fn is_last(count: u64) -> bool {
    count % 5 == 4
}

impl Ledger {
    fn add(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", name, count, "."] => {
                let count = count.parse().expect("a number");
                self.counts.insert(name.into(), Some(count));
            }
            ["deleted", name, "."] => {
                self.counts.insert(name.into(), None);
            }
            ["audit", number, "."] => self.last_audit = number.parse().expect("a number"),
            // Of the test harness, or cut off by the kill.
            _ => return,
        }
        self.answers += 1;
    }
}

/// No test: the process that is killed.
#[test]
#[ignore = "started by what_was_answered_survives"]
fn the_child() {
    let Some(path) = env::var_os(FILE) else {
        return;
    };
    let store = open(path);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_on(store.clone(), writer)))
            .collect();
        for writer in writers {
            writer.await.expect("is killed before it ends");
        }
    });
}

/// Counts its objects up, deletes them, makes them again, and answers on the standard output.
async fn write_on(store: SqliteStore, writer: u64) {
    for turn in 0.. {
        let name = format!("w{writer}-{}", turn % OBJECTS);
        let present: Option<Exporter> = store.get(&key(&name)).await.expect("is read");
        let answer = match present {
            Some(present) if is_last(present.metadata.generation) => {
                store
                    .delete::<Exporter>(&key(&name), None)
                    .await
                    .expect("goes");
                format!("deleted {name} .")
            }
            present => {
                let mut next = present.clone().unwrap_or_else(|| exporter(&name));
                let write = match present {
                    Some(_) => {
                        next.metadata.generation += 1;
                        Write::update(&next)
                    }
                    None => Write::create(&next),
                };
                let answers = store.apply(vec![write.expect("a write")]).await;
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                format!("put {name} {} .", next.metadata.generation)
            }
        };
        say(&answer);
        if writer == 0 {
            let numbers = store
                .append_audit(vec![audit("admin:root", "Update", 1)])
                .await
                .expect("is kept");
            say(&format!("audit {} .", numbers[0]));
        }
        assert!(
            store
                .get_object(Kind::Client, &key("none"))
                .await
                .is_ok_and(|found| found.is_none())
        );
    }
}

fn say(answer: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")
        .and_then(|()| out.flush())
        .expect("somebody listens");
}

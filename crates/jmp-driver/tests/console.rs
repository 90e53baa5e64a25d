//! The console hub over devices in memory.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use jmp_driver::console::{ConsoleHub, ConsoleOptions, Direction, Start};
use jmp_driver::{ByteReader, ByteStream, ErrorKind, LogHub};
use jmp_wire::stream::channel;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);

/// The far ends of the devices that a hub opened, and why it cannot open one.
#[derive(Clone, Default)]
struct Bench {
    opened: Arc<AtomicUsize>,
    far: Arc<Mutex<Vec<ByteStream>>>,
    refuse: Arc<Mutex<Option<&'static str>>>,
}

impl Bench {
    fn hub(&self, options: ConsoleOptions) -> ConsoleHub {
        let bench = self.clone();
        ConsoleHub::new(options, move || {
            let bench = bench.clone();
            async move {
                if let Some(text) = *bench.refuse.lock().unwrap() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                }
                bench.opened.fetch_add(1, Ordering::Relaxed);
                let (near, far) = ByteStream::pair(4);
                bench.far.lock().unwrap().push(far);
                Ok(near)
            }
        })
    }

    /// The device opened last; it stays open as long as this lives.
    fn device(&self) -> ByteStream {
        self.far.lock().unwrap().pop().expect("a device was opened")
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

fn options() -> ConsoleOptions {
    ConsoleOptions::new("the test console")
}

async fn next(reader: &mut ByteReader) -> Option<io::Result<Bytes>> {
    timeout(LIMIT, reader.next())
        .await
        .expect("something to read")
}

/// Reads until `wanted` bytes are there.
async fn read(reader: &mut ByteReader, wanted: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < wanted {
        all.extend_from_slice(&next(reader).await.expect("no end yet").unwrap());
    }
    all
}

async fn say(device: &mut ByteStream, text: &'static str) {
    let sent = device.writer.send(Bytes::from_static(text.as_bytes()));
    timeout(LIMIT, sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_readers_see_the_same_and_a_late_one_only_the_rest() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut first = hub.attach(Start::Now).await.unwrap();
    let mut second = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    say(&mut device, "one").await;
    assert_eq!(read(&mut first.reader, 3).await, b"one");
    assert_eq!(read(&mut second.reader, 3).await, b"one");
    let mut late = hub.attach(Start::Now).await.unwrap();
    let mut replayed = hub.attach(Start::Replay).await.unwrap();
    say(&mut device, "two").await;
    assert_eq!(read(&mut late.reader, 3).await, b"two");
    assert_eq!(read(&mut replayed.reader, 6).await, b"onetwo");
    assert_eq!(bench.opened(), 1);
    assert_eq!(hub.readers(), 4);
}

#[tokio::test]
async fn every_stream_writes_and_chunks_stay_whole() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut first = hub.attach(Start::Now).await.unwrap();
    let mut second = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    let writing = async {
        for _ in 0..50 {
            let (a, b) = tokio::join!(
                first.writer.send(Bytes::from_static(b"aaaa")),
                second.writer.send(Bytes::from_static(b"bbb")),
            );
            a.unwrap();
            b.unwrap();
        }
        hub.write("end").await.unwrap();
        // What was taken is written although its stream is gone.
        first
            .writer
            .send(Bytes::from_static(b"last"))
            .await
            .unwrap();
        drop(first);
    };
    let reading = async {
        let mut chunks = Vec::new();
        while chunks.last().is_none_or(|last| last != "last") {
            chunks.push(next(&mut device.reader).await.unwrap().unwrap());
        }
        chunks
    };
    let ((), chunks) = timeout(LIMIT, async { tokio::join!(writing, reading) })
        .await
        .unwrap();
    assert_eq!(chunks.len(), 102);
    for chunk in chunks {
        assert!(["aaaa", "bbb", "end", "last"].contains(&std::str::from_utf8(&chunk).unwrap()));
    }
}

#[tokio::test]
async fn a_half_close_of_one_stream_closes_nothing() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut stream = hub.attach(Start::Now).await.unwrap();
    stream.writer.close().await.unwrap();
    let mut device = bench.device();
    say(&mut device, "still there").await;
    assert_eq!(read(&mut stream.reader, 11).await, b"still there");
    assert!(hub.is_open());
}

#[tokio::test]
async fn a_lost_device_ends_the_streams_and_the_next_one_opens_it_again() {
    let bench = Bench::default();
    let log = LogHub::default();
    let logger = log.logger("driver.Test", jmp_driver::log::LogSource::Driver);
    let hub = bench.hub(options().log(logger));
    let mut stream = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    say(&mut device, "last words").await;
    drop(device.reader);
    drop(hub.write("into the void").await);
    assert_eq!(read(&mut stream.reader, 10).await, b"last words");
    let error = next(&mut stream.reader).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(next(&mut stream.reader).await.is_none());
    let refused = stream.writer.send(Bytes::from_static(b"x")).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("the test console is closed")
    );
    let line = log
        .subscribe()
        .boxed()
        .next()
        .now_or_never()
        .flatten()
        .unwrap();
    assert!(
        line.message.starts_with("the test console was lost: "),
        "{}",
        line.message
    );

    *bench.refuse.lock().unwrap() = Some("it is not plugged in");
    let error = hub.attach(Start::Now).await.err().unwrap();
    assert_eq!(error.message(), "it is not plugged in");
    *bench.refuse.lock().unwrap() = None;
    let mut stream = hub.attach(Start::Replay).await.unwrap();
    assert_eq!(read(&mut stream.reader, 10).await, b"last words");
    // The end of the device without an error is a quiet end.
    drop(bench.device());
    assert!(next(&mut stream.reader).await.is_none());
    assert_eq!(bench.opened(), 2);
}

#[tokio::test]
async fn a_suspended_console_is_closed_and_comes_back() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut stream = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    let outer = hub.suspend().await;
    let inner = hub.suspend().await;
    assert!(!hub.is_open());
    assert!(
        next(&mut device.reader).await.is_none(),
        "closed for the flasher"
    );
    stream
        .writer
        .send(Bytes::from_static(b"early"))
        .await
        .unwrap();
    let mut late = hub.attach(Start::Now).await.unwrap();
    inner.resume().await.unwrap();
    assert!(!hub.is_open(), "the outer one still holds it");
    outer.resume().await.unwrap();
    let mut device = bench.device();
    assert_eq!(next(&mut device.reader).await.unwrap().unwrap(), "early");
    say(&mut device, "back").await;
    assert_eq!(read(&mut stream.reader, 4).await, b"back");
    assert_eq!(read(&mut late.reader, 4).await, b"back");
    assert_eq!(bench.opened(), 2);

    let held = hub.suspend().await;
    *bench.refuse.lock().unwrap() = Some("it did not come back");
    let error = held.resume().await.unwrap_err();
    assert_eq!(error.message(), "it did not come back");
    let error = next(&mut stream.reader).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "it did not come back");
}

#[tokio::test]
async fn suspending_a_closed_console_opens_nothing() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    hub.suspend().await.resume().await.unwrap();
    assert_eq!(bench.opened(), 0);
    let held = hub.suspend().await;
    let _waiting = hub.attach(Start::Now).await.unwrap();
    assert_eq!(bench.opened(), 0);
    held.resume().await.unwrap();
    assert_eq!(bench.opened(), 1);
    let held = hub.suspend().await;
    hub.close().await;
    held.resume().await.unwrap();
    assert_eq!(bench.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_reader_costs_the_others_a_moment_once() {
    let bench = Bench::default();
    let log = LogHub::default();
    let logger = log.logger("driver.Test", jmp_driver::log::LogSource::Driver);
    let mut small = options().history(0).log(logger);
    small.backlog = 1000;
    let hub = bench.hub(small);
    let mut stuck = hub.attach(Start::Now).await.unwrap();
    let mut quick = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    let start = tokio::time::Instant::now();
    let writing = async {
        for _ in 0..1000 {
            device
                .writer
                .send(Bytes::from(vec![b'x'; 100]))
                .await
                .unwrap();
        }
    };
    let (_, received) = tokio::join!(writing, read(&mut quick.reader, 100_000));
    assert_eq!(received.len(), 100_000);
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    assert_eq!(read(&mut stuck.reader, 1000).await.len(), 1000);
    let line = log
        .subscribe()
        .boxed()
        .next()
        .now_or_never()
        .flatten()
        .unwrap();
    assert_eq!(
        line.message,
        "a reader of the test console was too slow and lost 99000 bytes"
    );
}

#[tokio::test]
async fn a_reader_that_only_falls_behind_a_little_loses_nothing() {
    let bench = Bench::default();
    let mut small = options().history(0);
    small.backlog = 1000;
    let hub = bench.hub(small);
    let mut stream = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    let writing = async {
        for number in 0..2000_u32 {
            let bytes = Bytes::from(vec![(number % 251) as u8; 100]);
            device.writer.send(bytes).await.unwrap();
        }
    };
    let reading = async {
        let mut all = Vec::new();
        while all.len() < 200_000 {
            all.extend_from_slice(&next(&mut stream.reader).await.unwrap().unwrap());
            tokio::task::yield_now().await;
        }
        all
    };
    let ((), all) = tokio::join!(writing, reading);
    let expected = (0..2000_u32).flat_map(|number| [(number % 251) as u8; 100]);
    assert!(all.iter().copied().eq(expected));
}

#[tokio::test]
async fn a_tap_records_both_directions_across_reopening() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut tap = hub.tap();
    for (input, output) in [("a", "b"), ("c", "d")] {
        hub.write(input).await.unwrap();
        let mut device = bench.device();
        assert_eq!(next(&mut device.reader).await.unwrap().unwrap(), input);
        say(&mut device, output).await;
        for (direction, bytes) in [
            (Direction::ToDevice, input),
            (Direction::FromDevice, output),
        ] {
            let record = timeout(LIMIT, tap.next()).await.unwrap().unwrap();
            assert_eq!((record.direction, record.bytes), (direction, bytes.into()));
            assert_eq!(record.lost, 0);
        }
        hub.close().await;
    }
    hub.shut_down().await;
    assert!(timeout(LIMIT, tap.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn close_ends_all_streams_and_shut_down_is_final() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut stream = hub.attach(Start::Now).await.unwrap();
    hub.close().await;
    assert!(!hub.is_open());
    assert!(next(&mut bench.device().reader).await.is_none());
    assert!(next(&mut stream.reader).await.is_none());
    hub.close().await;
    let mut again = hub.attach(Start::Now).await.unwrap();
    hub.shut_down().await;
    assert!(next(&mut again.reader).await.is_none());
    let error = hub.attach(Start::Now).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert_eq!(bench.opened(), 2);
}

#[tokio::test]
async fn dropping_the_hub_closes_the_device_and_ends_streams_and_taps() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    let mut tap = hub.tap();
    let mut stream = hub.attach(Start::Now).await.unwrap();
    let mut device = bench.device();
    drop(hub);
    assert!(next(&mut device.reader).await.is_none());
    assert!(next(&mut stream.reader).await.is_none());
    assert!(timeout(LIMIT, tap.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_device_that_does_not_open() {
    let hub = ConsoleHub::new(options(), std::future::pending);
    let attaching = hub.attach(Start::Now);
    let ending = async {
        tokio::task::yield_now().await;
        hub.shut_down().await;
    };
    let (attached, ()) = timeout(LIMIT, async { tokio::join!(attaching, ending) })
        .await
        .unwrap();
    assert_eq!(attached.err().unwrap().kind(), ErrorKind::Connection);
}

#[tokio::test]
async fn a_device_in_memory_that_never_waits_can_be_closed() {
    let hub = ConsoleHub::new(options(), || async {
        let (writer, _) = channel(1);
        let endless = futures::stream::repeat_with(|| Ok(Bytes::from_static(b"x")));
        Ok(ByteStream::new(endless, writer))
    });
    hub.open().await.unwrap();
    timeout(LIMIT, hub.close()).await.unwrap();
}

#[tokio::test]
async fn a_thousand_streams_leave_nothing_behind() {
    let bench = Bench::default();
    let hub = bench.hub(options());
    for _ in 0..1000 {
        let mut stream = hub.attach(Start::Now).await.unwrap();
        drop(stream.writer.send(Bytes::new()).now_or_never());
    }
    assert_eq!((hub.readers(), bench.opened()), (0, 1));
}

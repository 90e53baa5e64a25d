//! Recording what passes through a console.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use futures::Stream;

use super::state::Shared;

/// Bytes that wait for a tap before new ones are dropped.
const TAP_BYTES: usize = 1024 * 1024;
/// Records that wait for a tap before new ones are dropped.
const TAP_RECORDS: usize = 4096;

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The device said it.
    FromDevice,
    /// A stream sent it to the device.
    ToDevice,
}

/// Bytes that passed through a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleRecord {
    /// When, by the hub's clock.
    pub time: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// What.
    pub bytes: Bytes,
    /// Bytes of either direction before these that the tap was too slow for.
    pub lost: u64,
}

/// What waits for one tap.
#[derive(Debug, Default)]
pub(super) struct TapQueue {
    records: VecDeque<ConsoleRecord>,
    bytes: usize,
    lost: u64,
    pub(super) ended: bool,
    pub(super) waker: Option<Waker>,
}

// === impl TapQueue ===

impl TapQueue {
    pub(super) fn push(&mut self, time: SystemTime, direction: Direction, bytes: &Bytes) {
        if self.records.len() >= TAP_RECORDS || self.bytes + bytes.len() > TAP_BYTES {
            self.lost += bytes.len() as u64;
            return;
        }
        self.bytes += bytes.len();
        self.records.push_back(ConsoleRecord {
            time,
            direction,
            bytes: bytes.clone(),
            lost: std::mem::take(&mut self.lost),
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn pop(&mut self) -> Option<ConsoleRecord> {
        let record = self.records.pop_front()?;
        self.bytes -= record.bytes.len();
        Some(record)
    }
}

/// A stream of everything that passes through a console, in both directions, whoever is connected.
///
/// It goes on when the device is closed and opened again, and ends with the hub. A tap never holds
/// the console up: up to 1 MiB waits for it, what comes on top is dropped and counted.
pub struct ConsoleTap {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
}

impl Stream for ConsoleTap {
    type Item = ConsoleRecord;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ConsoleRecord>> {
        self.shared.poll_tap(self.id, context)
    }
}

impl Drop for ConsoleTap {
    fn drop(&mut self) {
        self.shared.remove_tap(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_tap_is_told_what_it_lost() {
        let mut queue = TapQueue::default();
        let time = SystemTime::UNIX_EPOCH;
        let large = Bytes::from(vec![0; TAP_BYTES]);
        queue.push(time, Direction::FromDevice, &large);
        queue.push(time, Direction::ToDevice, &Bytes::from_static(b"ab"));
        assert_eq!(queue.pop().unwrap().bytes.len(), TAP_BYTES);
        queue.push(time, Direction::ToDevice, &Bytes::from_static(b"c"));
        let record = queue.pop().unwrap();
        assert_eq!((record.lost, &record.bytes[..]), (2, &b"c"[..]));
        assert!(queue.pop().is_none());
    }
}

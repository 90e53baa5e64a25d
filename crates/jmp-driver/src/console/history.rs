//! The bytes a console keeps, and where each reader is in them. Pure: no IO, no clock, no waking.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

/// Names a reader of one [`History`].
pub(super) type ReaderId = u64;

/// The last bytes of a console, numbered from 0 at its first byte, and its readers.
#[derive(Debug)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    /// Bytes kept: what may be replayed, and room for readers that fall behind.
    capacity: usize,
    replay: usize,
    /// Number of the byte after the last one.
    end: u64,
    readers: BTreeMap<ReaderId, Cursor>,
    next: ReaderId,
}

#[derive(Debug)]
struct Cursor {
    /// Number of the next byte to read.
    position: u64,
    /// Number of the first byte that this reader does not get any more.
    stop: Option<u64>,
    /// Nobody waits for this reader until it has caught up.
    given_up: bool,
}

/// What a reader got.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes that were gone before this reader came for them.
    pub lost: u64,
    /// The next bytes; none if there are none yet, or ever.
    pub bytes: Bytes,
    /// The reader was stopped and has got everything.
    pub finished: bool,
}

// === impl History ===

impl History {
    /// Keeps `replay` bytes for readers that ask for them, and `backlog` more for slow ones.
    pub(super) fn new(replay: usize, backlog: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity: replay.saturating_add(backlog),
            replay,
            end: 0,
            readers: BTreeMap::new(),
            next: 0,
        }
    }

    /// Number of the oldest byte.
    fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Adds bytes at the end; the oldest make room for them.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.end += data.len() as u64;
        let kept = &data[data.len().saturating_sub(self.capacity)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    /// Adds a reader of what comes from now on, or of what may be replayed and then the rest.
    pub(super) fn attach(&mut self, replay: bool) -> ReaderId {
        let position = if replay {
            self.start()
                .max(self.end.saturating_sub(self.replay as u64))
        } else {
            self.end
        };
        let reader = self.next;
        self.next += 1;
        self.readers.insert(
            reader,
            Cursor {
                position,
                stop: None,
                given_up: false,
            },
        );
        reader
    }

    /// Forgets a reader.
    pub(super) fn detach(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
    }

    /// All present readers get what is there and no more.
    pub(super) fn stop_all(&mut self) {
        for cursor in self.readers.values_mut() {
            cursor.stop.get_or_insert(self.end);
        }
    }

    /// The next bytes of a reader, at most `limit`; finished if there is no such reader.
    pub(super) fn take(&mut self, reader: ReaderId, limit: usize) -> Taken {
        let (start, end) = (self.start(), self.end);
        let Some(cursor) = self.readers.get_mut(&reader) else {
            return Taken {
                lost: 0,
                bytes: Bytes::new(),
                finished: true,
            };
        };
        let stop = cursor.stop.unwrap_or(end);
        let first = cursor.position.max(start).min(stop.max(cursor.position));
        let lost = first - cursor.position;
        let last = stop.min(first.saturating_add(limit as u64)).max(first);
        cursor.position = last;
        if last == stop {
            cursor.given_up = false;
        }
        let finished = cursor.stop == Some(last);
        // Stopped before the oldest byte: there is nothing to copy.
        let bytes = if first == last {
            Bytes::new()
        } else {
            copy(
                &self.bytes,
                (first - start) as usize,
                (last - start) as usize,
            )
        };
        Taken {
            lost,
            bytes,
            finished,
        }
    }

    /// Whether a reader that is waited for would lose bytes if `length` more came.
    pub(super) fn would_lose(&self, length: usize) -> bool {
        self.readers
            .values()
            .any(|cursor| cursor.is_in_the_way(self.end, self.capacity, length))
    }

    /// Stops waiting for the readers that would lose bytes if `length` more came.
    pub(super) fn give_up(&mut self, length: usize) {
        let (end, capacity) = (self.end, self.capacity);
        for cursor in self.readers.values_mut() {
            cursor.given_up |= cursor.is_in_the_way(end, capacity, length);
        }
    }

    /// How many readers there are.
    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }
}

// === impl Cursor ===

impl Cursor {
    fn is_in_the_way(&self, end: u64, capacity: usize, length: usize) -> bool {
        let behind = end.saturating_sub(self.position);
        // A reader without a backlog loses only what is larger than everything kept.
        !self.given_up
            && self.stop.is_none()
            && behind > 0
            && behind.saturating_add(length as u64) > capacity as u64
    }
}

fn copy(bytes: &VecDeque<u8>, from: usize, to: usize) -> Bytes {
    let (front, back) = bytes.as_slices();
    let mut copied = BytesMut::with_capacity(to - from);
    if from < front.len() {
        copied.extend_from_slice(&front[from..to.min(front.len())]);
    }
    if to > front.len() {
        copied.extend_from_slice(&back[from.saturating_sub(front.len())..to - front.len()]);
    }
    copied.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Attach(bool),
        Take(usize, usize),
        Detach(usize),
        StopAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_usize).prop_map(Step::Push),
            1 => any::<bool>().prop_map(Step::Attach),
            4 => (0..4_usize, 0..30_usize).prop_map(|(reader, limit)| Step::Take(reader, limit)),
            1 => (0..4_usize).prop_map(Step::Detach),
            1 => Just(Step::StopAll),
        ]
    }

    /// What a reader must see, kept the simple way.
    struct Model {
        id: ReaderId,
        position: u64,
        stop: Option<u64>,
    }

    proptest! {
        #[test]
        fn readers_see_every_byte_in_order_or_are_told_how_many_they_lost(
            replay in 0..20_usize,
            backlog in 1..40_usize,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let mut history = History::new(replay, backlog);
            let mut all: Vec<u8> = Vec::new();
            let mut readers: Vec<Model> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(length) => {
                        let data: Vec<u8> = (all.len()..all.len() + length).map(|n| n as u8).collect();
                        history.push(&data);
                        all.extend(data);
                    }
                    Step::Attach(wanted) => {
                        let behind = if wanted { replay.min(all.len()) } else { 0 };
                        let id = history.attach(wanted);
                        readers.push(Model { id, position: (all.len() - behind) as u64, stop: None });
                    }
                    Step::Take(reader, limit) => {
                        let count = readers.len();
                        let Some(model) = readers.get_mut(reader % count.max(1)) else { continue };
                        let taken = history.take(model.id, limit);
                        model.position += taken.lost;
                        let from = model.position as usize;
                        prop_assert!(taken.bytes.len() <= limit);
                        prop_assert_eq!(&taken.bytes[..], &all[from..from + taken.bytes.len()]);
                        model.position += taken.bytes.len() as u64;
                        let stop = model.stop.unwrap_or(all.len() as u64);
                        prop_assert!(model.position <= stop);
                        prop_assert_eq!(taken.finished, model.stop == Some(model.position));
                        // Only what no longer fits is ever lost.
                        let oldest = all.len().saturating_sub(replay + backlog) as u64;
                        prop_assert!(taken.lost == 0 || model.position - taken.bytes.len() as u64 <= oldest);
                        prop_assert!(limit == 0 || !taken.bytes.is_empty() || model.position == stop);
                    }
                    Step::Detach(reader) => {
                        if reader < readers.len() {
                            history.detach(readers.remove(reader).id);
                        }
                    }
                    Step::StopAll => {
                        history.stop_all();
                        for model in &mut readers {
                            model.stop.get_or_insert(all.len() as u64);
                        }
                    }
                }
                prop_assert!(history.bytes.len() <= replay + backlog);
                prop_assert_eq!(history.readers(), readers.len());
            }
        }

        #[test]
        fn whoever_is_waited_for_loses_nothing(
            lengths in proptest::collection::vec(1..20_usize, 0..60),
            reads in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let mut history = History::new(8, 24);
            let reader = history.attach(false);
            let mut lost = 0;
            for (length, read) in lengths.into_iter().zip(reads) {
                if history.would_lose(length) || read {
                    lost += history.take(reader, usize::MAX).lost;
                }
                prop_assert!(!history.would_lose(length));
                history.push(&vec![0; length]);
            }
            prop_assert_eq!(lost, 0);
        }
    }

    #[test]
    fn a_reader_given_up_is_waited_for_again_once_it_has_caught_up() {
        let mut history = History::new(0, 4);
        let reader = history.attach(false);
        history.push(b"abc");
        assert!(history.would_lose(2));
        history.give_up(2);
        assert!(!history.would_lose(2));
        history.push(b"de");
        let taken = history.take(reader, 8);
        assert_eq!((taken.lost, &taken.bytes[..]), (1, &b"bcde"[..]));
        history.push(b"fgh");
        assert!(history.would_lose(2));
    }
}

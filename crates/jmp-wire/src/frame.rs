//! Stream frames inside gRPC messages, without looking at the bytes they carry.
//!
//! `StreamRequest` and `StreamResponse` have one layout: field 1 the payload, field 2 the frame
//! type. Generated code would copy each payload on encode and on decode, so both directions are
//! written by hand here: a small prefix, then the payload as the [`Bytes`] it already is.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Largest message that is accepted, overhead included: what gRPC peers send at most by default.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Largest payload put into one frame; longer ones are split so that peers with gRPC's default
/// limit of 4 MiB for a message can always receive them.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Payloads up to this size are copied behind their prefix: one small write beats two.
const COALESCE: usize = 1024;

/// The kinds of frame that are used; the numbers follow HTTP/2 (facts: protocol 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameType {
    /// One chunk of data.
    Data,
    /// End of this direction.
    GoAway,
    /// Anything else: carries nothing for the reader and is skipped.
    Other(u32),
}

impl FrameType {
    fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Data,
            7 => Self::GoAway,
            other => Self::Other(other.min(u64::from(u32::MAX)) as u32),
        }
    }
}

/// A received frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the frame means.
    pub frame_type: FrameType,
    /// Its data; empty for everything but [`FrameType::Data`].
    pub payload: Bytes,
}

/// Why a sequence of bytes is not a sequence of frames.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The peer announced a message over the limit.
    #[error("message of {length} bytes is larger than the limit of {MAX_MESSAGE} bytes")]
    TooLarge {
        /// Announced length in bytes.
        length: usize,
    },
    /// The peer compressed a message although only identity was offered.
    #[error("compressed message received although no compression was offered")]
    Compressed,
    /// The message is not valid protobuf.
    #[error("malformed stream message")]
    Malformed,
}

/// The encoding of a frame: one or two chunks for the body of a request or response.
#[derive(Debug, PartialEq, Eq)]
pub struct EncodedFrame {
    /// gRPC prefix and field tags, and the payload too if it is small.
    pub head: Bytes,
    /// The payload, untouched, if it is not part of `head`.
    pub payload: Option<Bytes>,
}

/// Encodes a data frame.
///
/// # Panics
///
/// If `payload` is longer than [`MAX_PAYLOAD`]; split it first.
pub fn encode_data(payload: Bytes) -> EncodedFrame {
    assert!(payload.len() <= MAX_PAYLOAD, "payload must be split first");
    if payload.is_empty() {
        return EncodedFrame {
            head: Bytes::from_static(&[0, 0, 0, 0, 0]),
            payload: None,
        };
    }
    let field = 1 + varint_length(payload.len() as u64);
    let inline = payload.len() <= COALESCE;
    let mut head = BytesMut::with_capacity(5 + field + if inline { payload.len() } else { 0 });
    head.put_u8(0);
    head.put_u32((field + payload.len()) as u32);
    head.put_u8(0x0a);
    put_varint(&mut head, payload.len() as u64);
    if inline {
        head.put_slice(&payload);
        EncodedFrame {
            head: head.freeze(),
            payload: None,
        }
    } else {
        EncodedFrame {
            head: head.freeze(),
            payload: Some(payload),
        }
    }
}

/// Encodes the frame that ends a direction.
pub fn encode_goaway() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 0, 2, 0x10, 7])
}

/// Turns body chunks into frames; payloads that arrive in one chunk are not copied.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    chunks: VecDeque<Bytes>,
    available: usize,
}

// === impl FrameDecoder ===

impl FrameDecoder {
    /// Hands over the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.available += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// True if no part of a message is held back.
    pub fn is_empty(&self) -> bool {
        self.available == 0
    }

    /// The next whole frame, or `None` until more chunks are pushed.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]; the stream cannot be used any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.available < 5 {
            return Ok(None);
        }
        let mut prefix = [0; 5];
        self.peek(&mut prefix);
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 {
            return Err(FrameError::Compressed);
        }
        if length > MAX_MESSAGE {
            return Err(FrameError::TooLarge { length });
        }
        if self.available < 5 + length {
            return Ok(None);
        }
        self.skip(5);
        self.message(length).map(Some)
    }

    /// Parses the fields of a message whose `length` bytes are all at hand.
    fn message(&mut self, length: usize) -> Result<Frame, FrameError> {
        let mut left = length;
        let mut frame_type = 0;
        let mut payload = Bytes::new();
        while left > 0 {
            let (tag, used) = self.varint(left)?;
            left -= used;
            match (tag >> 3, tag & 7) {
                (1, 2) => {
                    let (size, used) = self.varint(left)?;
                    left -= used;
                    let size = usize::try_from(size).map_err(|_| FrameError::Malformed)?;
                    if size > left {
                        return Err(FrameError::Malformed);
                    }
                    payload = self.take(size);
                    left -= size;
                }
                (2, 0) => {
                    let (number, used) = self.varint(left)?;
                    left -= used;
                    frame_type = number;
                }
                (_, wire_type) => left -= self.skip_field(wire_type, left)?,
            }
        }
        let frame_type = FrameType::from_number(frame_type);
        if frame_type != FrameType::Data {
            payload = Bytes::new();
        }
        Ok(Frame {
            frame_type,
            payload,
        })
    }

    /// Skips a field that this version does not know; returns how many bytes it had.
    fn skip_field(&mut self, wire_type: u64, left: usize) -> Result<usize, FrameError> {
        let (size, used) = match wire_type {
            0 => return Ok(self.varint(left)?.1),
            1 => (8, 0),
            2 => {
                let (size, used) = self.varint(left)?;
                (
                    usize::try_from(size).map_err(|_| FrameError::Malformed)?,
                    used,
                )
            }
            5 => (4, 0),
            _ => return Err(FrameError::Malformed),
        };
        if size > left - used {
            return Err(FrameError::Malformed);
        }
        self.skip(size);
        Ok(used + size)
    }

    /// Reads a variable length integer of at most `left` bytes; returns it and its length.
    fn varint(&mut self, left: usize) -> Result<(u64, usize), FrameError> {
        let mut value = 0u64;
        for index in 0..left.min(10) {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok((value, index + 1));
            }
        }
        Err(FrameError::Malformed)
    }

    fn byte(&mut self) -> u8 {
        let byte = self.chunks.front().map_or(0, |chunk| chunk[0]);
        self.skip(1);
        byte
    }

    fn peek(&self, target: &mut [u8]) {
        let bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        for (slot, byte) in target.iter_mut().zip(bytes) {
            *slot = *byte;
        }
    }

    fn skip(&mut self, mut count: usize) {
        self.available -= count;
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else {
                return;
            };
            if front.len() > count {
                let _ = front.split_to(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }

    /// Removes `count` bytes; copies only if they are spread over several chunks.
    fn take(&mut self, count: usize) -> Bytes {
        if count == 0 {
            return Bytes::new();
        }
        if let Some(front) = self.chunks.front_mut()
            && front.len() >= count
        {
            self.available -= count;
            let taken = front.split_to(count);
            if front.is_empty() {
                self.chunks.pop_front();
            }
            return taken;
        }
        let mut gathered = BytesMut::with_capacity(count);
        while gathered.len() < count {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            let part = front.len().min(count - gathered.len());
            gathered.extend_from_slice(&front[..part]);
            self.skip(part);
        }
        gathered.freeze()
    }
}

fn varint_length(mut value: u64) -> usize {
    let mut length = 1;
    while value >= 0x80 {
        value >>= 7;
        length += 1;
    }
    length
}

fn put_varint(target: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        target.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    target.put_u8(value as u8);
}

/// Body of the fuzz target for frame streams: arbitrary bytes in arbitrary chunks must neither
/// panic nor grow without bound. The first byte chooses the chunk size.
#[doc(hidden)]
pub fn fuzz_frames(data: &[u8]) {
    let Some((&size, rest)) = data.split_first() else {
        return;
    };
    let mut decoder = FrameDecoder::default();
    for chunk in rest.chunks(usize::from(size).max(1)) {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Ok(Some(frame)) = decoder.next_frame() {
            assert!(frame.payload.len() <= MAX_MESSAGE);
        }
        if decoder.next_frame().is_err() {
            return;
        }
        assert!(decoder.available <= MAX_MESSAGE + 5 + 256);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jmp_proto::v1::StreamRequest;
    use proptest::prelude::*;
    use prost::Message;

    fn joined(encoded: EncodedFrame) -> Vec<u8> {
        let mut all = encoded.head.to_vec();
        all.extend_from_slice(&encoded.payload.unwrap_or_default());
        all
    }

    fn decode_all(data: &[u8], chunk: usize) -> Vec<Frame> {
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        for part in data.chunks(chunk) {
            decoder.push(Bytes::copy_from_slice(part));
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert!(decoder.is_empty());
        frames
    }

    proptest! {
        #[test]
        fn encoding_is_what_prost_reads(payload in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let wire = joined(encode_data(Bytes::from(payload.clone())));
            let message = StreamRequest::decode(&wire[5..]).unwrap();
            prop_assert_eq!(message.payload, payload);
            prop_assert_eq!(message.frame_type, 0);
        }

        #[test]
        fn any_chunking_yields_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..8),
            chunk in 1usize..400,
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                wire.extend(joined(encode_data(Bytes::from(payload.clone()))));
            }
            wire.extend_from_slice(&encode_goaway());
            let frames = decode_all(&wire, chunk);
            prop_assert_eq!(frames.len(), payloads.len() + 1);
            for (frame, payload) in frames.iter().zip(&payloads) {
                prop_assert_eq!(frame.payload.as_ref(), payload.as_slice());
            }
            prop_assert_eq!(frames.last().unwrap().frame_type, FrameType::GoAway);
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            fuzz_frames(&data);
        }
    }

    #[test]
    fn a_payload_in_one_chunk_is_not_copied() {
        let payload = Bytes::from(vec![7; 100_000]);
        let encoded = encode_data(payload.clone());
        let sent = encoded.payload.unwrap();
        assert_eq!(sent.as_ptr(), payload.as_ptr());
        let mut decoder = FrameDecoder::default();
        decoder.push(encoded.head);
        decoder.push(sent);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame.payload.as_ptr(), payload.as_ptr());
    }

    #[test]
    fn limits_are_enforced() {
        let mut decoder = FrameDecoder::default();
        decoder.push(Bytes::from_static(&[0, 0xff, 0, 0, 0]));
        assert!(matches!(
            decoder.next_frame(),
            Err(FrameError::TooLarge { .. })
        ));
        let mut decoder = FrameDecoder::default();
        decoder.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(decoder.next_frame(), Err(FrameError::Compressed));
    }
}

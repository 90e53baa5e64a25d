//! Moving bytes between a console and this process: what `start-console` and `pipe` do, without
//! the process's own streams.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_driver::{ByteReader, ByteStream, ByteWriter};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Ctrl-B; three in a row leave a console.
const LEAVE: u8 = 0x02;
/// How many in a row.
const LEAVE_COUNT: usize = 3;
/// Most input sent in one piece.
const INPUT: usize = 4096;
/// How long a connection lives on after the last input, so that its bytes get out.
const GRACE: Duration = Duration::from_millis(300);

/// How a connection came to its end.
#[derive(Debug)]
pub enum Ending {
    /// The person left, or the input was all that was wanted.
    Left,
    /// The exporter ended the stream.
    EndOfStream,
    /// The stream broke.
    Lost(io::Error),
}

/// Finds three Ctrl-B in a row in what a person types.
#[derive(Debug, Default)]
pub struct LeaveKeys {
    seen: usize,
}

// === impl LeaveKeys ===

impl LeaveKeys {
    /// How many of these bytes are to be sent, and whether the person leaves after them. The first
    /// two Ctrl-B are sent like any other key, as shipped clients do.
    pub fn feed(&mut self, keys: &[u8]) -> (usize, bool) {
        for (index, key) in keys.iter().enumerate() {
            self.seen = if *key == LEAVE { self.seen + 1 } else { 0 };
            if self.seen == LEAVE_COUNT {
                return (index, true);
            }
        }
        (keys.len(), false)
    }
}

/// Connects a person's terminal, which must be raw, with a console until one of them leaves.
///
/// # Errors
///
/// Those of `input` and `output`; those of the stream are an [`Ending`].
pub async fn interact(
    stream: ByteStream,
    mut input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> io::Result<Ending> {
    let ByteStream { reader, mut writer } = stream;
    let typing = async {
        let mut keys = [0; INPUT];
        let mut leave_keys = LeaveKeys::default();
        loop {
            let count = input.read(&mut keys).await?;
            let (send, leave) = leave_keys.feed(&keys[..count]);
            let sent = writer.send(Bytes::copy_from_slice(&keys[..send])).await;
            if leave || count == 0 {
                return Ok(Ending::Left);
            }
            if sent.is_err() {
                // The reader knows why.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        ending = show(reader, output) => ending,
        ending = typing => ending,
    }
}

/// Copies a console to `output` and `input` to the console until the stream ends. The end of
/// `input` is a half-close. Without `output`, the end of `input` is the end.
///
/// # Errors
///
/// Those of `input` and `output`; those of the stream are an [`Ending`].
pub async fn copy(
    stream: ByteStream,
    input: Option<impl AsyncRead + Unpin>,
    output: Option<impl AsyncWrite + Unpin>,
) -> io::Result<Ending> {
    let ByteStream { reader, writer } = stream;
    let wait_for_reader = output.is_some();
    let sending = async {
        if let Some(input) = input {
            feed(input, writer).await?;
            if !wait_for_reader {
                tokio::time::sleep(GRACE).await;
                return Ok(Ending::Left);
            }
        }
        std::future::pending().await
    };
    let receiving = async {
        match output {
            Some(output) => show(reader, output).await,
            None => show(reader, tokio::io::sink()).await,
        }
    };
    tokio::select! {
        ending = receiving => ending,
        ending = sending => ending,
    }
}

async fn feed(mut input: impl AsyncRead + Unpin, mut writer: ByteWriter) -> io::Result<()> {
    let mut buffer = vec![0; INPUT];
    loop {
        let count = input.read(&mut buffer).await?;
        let sent = if count == 0 {
            writer.close().await
        } else {
            writer.send(Bytes::copy_from_slice(&buffer[..count])).await
        };
        if count == 0 {
            return Ok(());
        }
        if sent.is_err() {
            // The reader knows why.
            return std::future::pending().await;
        }
    }
}

async fn show(mut reader: ByteReader, mut output: impl AsyncWrite + Unpin) -> io::Result<Ending> {
    loop {
        match reader.next().await {
            Some(Ok(chunk)) => {
                output.write_all(&chunk).await?;
                output.flush().await?;
            }
            Some(Err(error)) => return Ok(Ending::Lost(error)),
            None => return Ok(Ending::EndOfStream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Option<tokio::io::Empty> = None;
    const NOWHERE: Option<tokio::io::Sink> = None;

    #[test]
    fn three_leave_keys_in_a_row_leave() {
        let mut keys = LeaveKeys::default();
        assert_eq!(keys.feed(b"ab\x02\x02c"), (5, false));
        assert_eq!(keys.feed(b"\x02"), (1, false));
        assert_eq!(keys.feed(b"\x02"), (1, false));
        assert_eq!(keys.feed(b"\x02rest"), (0, true));
    }

    #[tokio::test]
    async fn keys_go_out_as_they_are_typed_and_two_leave_keys_are_sent() {
        let (near, mut far) = ByteStream::pair(8);
        let (mut keyboard, input) = tokio::io::duplex(64);
        let (mut screen, output) = tokio::io::duplex(64);
        let console = tokio::spawn(interact(near, input, output));
        keyboard.write_all(b"a").await.unwrap();
        assert_eq!(far.reader.next().await.unwrap().unwrap(), "a");
        far.writer.send(Bytes::from_static(b"A")).await.unwrap();
        assert_eq!(screen.read_u8().await.unwrap(), b'A');
        keyboard.write_all(b"\x02\x02\x02").await.unwrap();
        assert_eq!(far.reader.next().await.unwrap().unwrap(), "\x02\x02");
        assert!(matches!(console.await.unwrap(), Ok(Ending::Left)));
    }

    #[tokio::test]
    async fn the_end_of_input_is_a_half_close_and_output_goes_on() {
        let (near, mut far) = ByteStream::pair(8);
        let (mut screen, output) = tokio::io::duplex(64);
        let copying = tokio::spawn(copy(near, Some(&b"hello"[..]), Some(output)));
        assert_eq!(far.reader.next().await.unwrap().unwrap(), "hello");
        assert!(far.reader.next().await.is_none());
        far.writer.send(Bytes::from_static(b"late")).await.unwrap();
        far.writer.close().await.unwrap();
        let mut shown = String::new();
        screen.read_to_string(&mut shown).await.unwrap();
        assert_eq!(shown, "late");
        assert!(matches!(copying.await.unwrap(), Ok(Ending::EndOfStream)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_output_the_end_of_input_is_the_end() {
        let (near, far) = ByteStream::pair(8);
        let ending = copy(near, Some(&b"reboot\n"[..]), NOWHERE).await;
        assert!(matches!(ending, Ok(Ending::Left)));
        let sent: Vec<_> = far.reader.map(Result::unwrap).collect().await;
        assert_eq!(sent, ["reboot\n"]);
    }

    #[tokio::test]
    async fn a_broken_stream_says_why() {
        let (mut output, reader) = (
            Vec::new(),
            futures::stream::iter([Err(io::Error::other("unplugged"))]),
        );
        let (writer, _) = jmp_wire_channel();
        let stream = ByteStream::new(reader, writer);
        let ending = copy(stream, NOTHING, Some(&mut output)).await.unwrap();
        assert!(matches!(ending, Ending::Lost(error) if error.to_string() == "unplugged"));
    }

    fn jmp_wire_channel() -> (ByteWriter, ByteReader) {
        let ByteStream { reader, writer } = ByteStream::echo(1);
        (writer, reader)
    }
}

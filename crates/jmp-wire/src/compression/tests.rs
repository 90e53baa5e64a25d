use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use futures::{StreamExt, TryStreamExt, stream};
use proptest::prelude::*;

use super::*;

/// Bytes that compress, but not to nothing: words of a small alphabet with a counter.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..length)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if index % 5 == 0 {
                (state >> 24) as u8
            } else {
                b'a' + (state >> 29) as u8
            }
        })
        .collect()
}

fn chunks(bytes: &[u8], size: usize) -> ChunkStream {
    let chunks: Vec<_> = bytes
        .chunks(size.max(1))
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    Box::pin(stream::iter(chunks))
}

async fn collect(stream: ChunkStream) -> io::Result<Vec<u8>> {
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok(chunks.concat())
}

async fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    let encoded = encode(encoding, chunks(bytes, 10_000));
    collect(encoded).await.expect("compresses")
}

async fn failure(encoding: Encoding, bytes: &[u8]) -> (io::ErrorKind, String) {
    let error = collect(decode(encoding, chunks(bytes, 7))).await;
    let error = error.expect_err("refused");
    (error.kind(), error.to_string())
}

/// Runs one of the ordinary tools over `input`. The test command installs them; that one is absent
/// is a failed test, not a skipped one.
fn tool(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}, which this test needs: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("output");
    writing.join().expect("no panic").expect("input is read");
    assert!(output.status.success(), "{program} failed");
    output.stdout
}

fn program(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Xz => "xz",
        Encoding::Bz2 => "bzip2",
        Encoding::Zstd => "zstd",
    }
}

#[test]
fn names_are_those_of_the_wire() {
    for encoding in Encoding::ALL {
        assert_eq!(encoding.to_string().parse(), Ok(encoding));
        let json = serde_json::to_value(encoding).expect("serializes");
        assert_eq!(json, encoding.name());
    }
    let error = "br".parse::<Encoding>().expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "unknown compression \"br\", expected gzip, xz, bz2 or zstd"
    );
}

#[tokio::test]
async fn what_the_tools_write_is_read_in_any_cut_and_number_of_members() {
    let parts = [sample(30_000), Vec::new(), sample(5), sample(200_000)];
    for encoding in Encoding::ALL {
        let mut compressed = Vec::new();
        for part in &parts {
            compressed.extend(tool(program(encoding), &["-c"], part));
        }
        for size in [1, 1000, usize::MAX] {
            let decoded = collect(decode(encoding, chunks(&compressed, size))).await;
            let decoded = decoded.unwrap_or_else(|error| panic!("{encoding} by {size}: {error}"));
            assert_eq!(decoded, parts.concat(), "{encoding} by {size}");
        }
    }
}

#[tokio::test]
async fn the_tools_read_what_is_written() {
    for encoding in Encoding::ALL {
        for bytes in [Vec::new(), sample(1), sample(700_000)] {
            let compressed = compress(encoding, &bytes).await;
            assert!(!compressed.is_empty());
            let restored = tool(program(encoding), &["-d", "-c"], &compressed);
            assert_eq!(restored, bytes, "{encoding}");
        }
    }
}

#[tokio::test]
async fn one_byte_chunks_are_enough_to_compress() {
    let bytes = sample(3000);
    for encoding in Encoding::ALL {
        let encoded = collect(encode(encoding, chunks(&bytes, 1))).await;
        let encoded = encoded.expect("compresses");
        let decoded = collect(decode(encoding, chunks(&encoded, 1))).await;
        assert_eq!(decoded.expect("decompresses"), bytes);
    }
}

#[tokio::test]
async fn gzip_takes_zlib_too() {
    let bytes = sample(50_000);
    let source = ChunkReader::new(chunks(&bytes, 4096));
    let zlib = Encoded::new(ZlibForTest(bufread::ZlibEncoder::new(source)));
    let zlib = collect(Box::pin(zlib)).await.expect("compresses");
    for size in [1, 100, usize::MAX] {
        let decoded = collect(decode(Encoding::Gzip, chunks(&zlib, size))).await;
        assert_eq!(decoded.expect("zlib"), bytes);
    }
    let twice = [zlib.as_slice(), &zlib].concat();
    let decoded = collect(decode(Encoding::Gzip, chunks(&twice, 100))).await;
    assert_eq!(decoded.expect("zlib"), bytes.repeat(2));
    let (kind, message) = failure(Encoding::Gzip, &zlib[..zlib.len() - 1]).await;
    assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    assert!(message.contains("truncated"), "{message}");
}

/// Only tests write zlib.
struct ZlibForTest(bufread::ZlibEncoder<ChunkReader>);

impl AsyncRead for ZlibForTest {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl Codec for ZlibForTest {
    fn source(&self) -> &ChunkReader {
        self.0.get_ref()
    }

    fn source_mut(&mut self) -> &mut ChunkReader {
        self.0.get_mut()
    }
}

#[tokio::test]
async fn truncation_is_an_error_wherever_it_happens() {
    for encoding in Encoding::ALL {
        let member = compress(encoding, &sample(2000)).await;
        for length in 1..member.len() {
            let (kind, message) = failure(encoding, &member[..length]).await;
            assert_eq!(kind, io::ErrorKind::UnexpectedEof, "{length}: {message}");
            let expected =
                format!("{encoding} data is truncated, at compressed byte {length} in member 1");
            assert_eq!(message, expected);
        }
        let two = [member.as_slice(), &member[..member.len() / 2]].concat();
        let (_, message) = failure(encoding, &two).await;
        assert!(message.ends_with("in member 2"), "{message}");
        let (kind, message) = failure(encoding, b"").await;
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
        assert!(message.contains("data is empty"), "{message}");
    }
}

#[tokio::test]
async fn foreign_and_corrupt_bytes_are_errors() {
    for encoding in Encoding::ALL {
        let bytes = sample(2000);
        let member = compress(encoding, &bytes).await;
        for tail in [&b"x"[..], b"garbage that goes on for a while"] {
            let (kind, message) = failure(encoding, &[&member, tail].concat()).await;
            assert_eq!(kind, io::ErrorKind::InvalidData);
            let expected = format!(
                "{encoding} data is followed by bytes that are not another member, at compressed \
                 byte {} in member 1",
                member.len()
            );
            assert_eq!(message, expected);
        }
        let (_, message) = failure(encoding, b"plain text").await;
        assert!(message.contains("does not start with"), "{message}");

        let mut corrupt = member.clone();
        let middle = corrupt.len() / 2;
        corrupt[middle] ^= 0x40;
        corrupt[middle + 1] ^= 0x21;
        let outcome = collect(decode(encoding, chunks(&corrupt, 100))).await;
        assert!(outcome.is_err(), "{encoding}");
    }
}

#[tokio::test]
async fn what_came_before_an_error_is_delivered() {
    for encoding in Encoding::ALL {
        let bytes = sample(100_000);
        let mut compressed = compress(encoding, &bytes).await;
        compressed.extend_from_slice(b"x");
        let items: Vec<_> = decode(encoding, chunks(&compressed, 1000)).collect().await;
        let (last, before) = items.split_last().expect("items");
        assert!(last.is_err());
        let delivered: usize = before.iter().flatten().map(Bytes::len).sum();
        assert_eq!(delivered, bytes.len());
    }
}

#[tokio::test]
async fn errors_of_the_source_pass_unchanged() {
    let broken = |bytes: &[u8]| -> ChunkStream {
        let error = io::Error::new(io::ErrorKind::ConnectionReset, "peer went away");
        let bytes = Bytes::copy_from_slice(bytes);
        Box::pin(stream::iter([Ok(bytes), Err(error)]))
    };
    for encoding in Encoding::ALL {
        let member = compress(encoding, &sample(2000)).await;
        for source in [&member[..40], &member] {
            let error = collect(decode(encoding, broken(source))).await;
            let error = error.expect_err("fails");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        let items: Vec<_> = encode(encoding, broken(b"abc")).collect().await;
        let failures = items.iter().filter(|item| item.is_err()).count();
        assert_eq!(failures, 1);
        assert!(items.last().is_some_and(Result::is_err));
    }
}

#[tokio::test]
async fn padding_of_gzip_and_xz_is_skipped() {
    let bytes = sample(2000);
    for encoding in [Encoding::Gzip, Encoding::Xz] {
        let member = compress(encoding, &bytes).await;
        let padded = [&member[..], &[0; 512], &member, &[0; 8]].concat();
        let decoded = collect(decode(encoding, chunks(&padded, 100))).await;
        assert_eq!(decoded.expect("padding is fine"), bytes.repeat(2));
    }
    let xz = compress(Encoding::Xz, &bytes).await;
    for tail in [vec![0; 3], [&[0; 6], &xz[..]].concat()] {
        let (_, message) = failure(Encoding::Xz, &[&xz[..], &tail].concat()).await;
        assert!(message.contains("not another member"), "{message}");
    }
}

#[tokio::test]
async fn a_window_beyond_the_limit_is_refused() {
    let zeros = vec![0; 1 << 20];
    let long = tool("zstd", &["-c", "--ultra", "--long=30"], &zeros);
    // Streaming input, so that the window is not cut to the size of the content.
    let (kind, message) = failure(Encoding::Zstd, &long).await;
    assert_eq!(kind, io::ErrorKind::InvalidData);
    assert!(message.contains("too much memory"), "{message}");

    let large = ["-c", "--lzma2=dict=512MiB"];
    let (kind, message) = failure(Encoding::Xz, &tool("xz", &large, b"little")).await;
    assert_eq!(kind, io::ErrorKind::InvalidData);
    assert!(message.contains("too much memory"), "{message}");
}

#[tokio::test]
async fn zstd_skippable_frames_are_skipped() {
    let bytes = sample(2000);
    let frame = compress(Encoding::Zstd, &bytes).await;
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let all = [&skippable[..], &frame, &skippable, &frame].concat();
    let decoded = collect(decode(Encoding::Zstd, chunks(&all, 1))).await;
    assert_eq!(decoded.expect("skipped"), bytes.repeat(2));
}

#[tokio::test]
async fn chunks_are_large_and_other_tasks_get_their_turn() {
    let zeros = vec![0; 8 << 20];
    for encoding in Encoding::ALL {
        let compressed = compress(encoding, &zeros).await;
        let sizes: Vec<usize> = decode(encoding, chunks(&compressed, usize::MAX))
            .map_ok(|chunk| chunk.len())
            .try_collect()
            .await
            .expect("decompresses");
        let full = sizes.iter().filter(|size| **size >= 64 * 1024).count();
        assert!(full + 1 >= sizes.len(), "{encoding}: {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 256 * 1024), "{sizes:?}");
    }
    // A source that is always ready still leaves room for others on a single thread.
    let mut encoded = encode(Encoding::Gzip, chunks(&sample(1 << 20), usize::MAX));
    let mut pauses = 0;
    loop {
        match futures::poll!(encoded.next()) {
            Poll::Pending => pauses += 1,
            Poll::Ready(Some(chunk)) => drop(chunk.expect("compresses")),
            Poll::Ready(None) => break,
        }
    }
    assert!(pauses >= 15, "{pauses}");
}

#[tokio::test]
async fn output_does_not_wait_for_a_stalled_source() {
    let bytes = sample(40_000);
    let compressed = compress(Encoding::Bz2, &bytes).await;
    let stalled = stream::iter([Ok(Bytes::from(compressed))]).chain(stream::pending());
    let mut decoded = decode(Encoding::Bz2, Box::pin(stalled));
    let first = decoded.next().await.expect("an item").expect("data");
    assert_eq!(first, bytes);
    assert!(futures::poll!(decoded.next()).is_pending());
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("runtime").block_on(future)
}

static MEMBERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let members = Encoding::ALL.map(|encoding| compress(encoding, &[7; 300]));
    block_on(futures::future::join_all(members))
});

proptest! {
    #[test]
    fn any_bytes_are_survived(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0usize..120,
    ) {
        let members = &*MEMBERS;
        block_on(async {
            for (encoding, member) in Encoding::ALL.into_iter().zip(members) {
                let _ = collect(decode(encoding, chunks(&data, 13))).await;
                // A valid beginning reaches deeper into the decoders.
                let begun = [&member[..cut.min(member.len())], &data].concat();
                let _ = collect(decode(encoding, chunks(&begun, 13))).await;
            }
        });
    }
}

//! Local files as streams of chunks.
//!
//! Files are read and written in large blocking steps, one step ahead of what happens meanwhile
//! on the network. Nothing waits in a thread between two steps, so dropping either side leaves
//! at most one step to finish by itself.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};

use bytes::Bytes;
use futures::StreamExt;
use jmp_wire::stream::ByteReader;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes read at once: what one HTTP/2 frame of ours holds, so that a chunk crosses a connection
/// without being put together again.
const READ_SIZE: usize = 256 * 1024;

/// Bytes gathered before they are written at once.
const WRITE_SIZE: usize = 1024 * 1024;

/// The rest of a file as chunks.
///
/// Meant for files and devices that answer reads; a read of a pipe or terminal that never
/// answers cannot be given up.
pub fn read_file(file: File) -> ByteReader {
    Box::pin(async_stream::try_stream! {
        let mut ahead = spawn_blocking(move || read_chunk(file));
        loop {
            let (file, chunk) = finished(ahead).await?;
            if chunk.is_empty() {
                break;
            }
            ahead = spawn_blocking(move || read_chunk(file));
            yield chunk;
        }
    })
}

/// Writes all chunks of `reader` to `file`, from its present position. Returns the file and the
/// bytes written.
///
/// # Errors
///
/// The first error of either side. A failed write is reported even while `reader` stays silent.
pub async fn write_file(file: File, mut reader: ByteReader) -> io::Result<(File, u64)> {
    let mut idle = Some(file);
    let mut writing: Option<JoinHandle<io::Result<File>>> = None;
    let mut gathered = Vec::new();
    let mut size = 0;
    let mut total = 0;
    let mut ended = false;
    loop {
        let full = ended || size >= WRITE_SIZE;
        if full && let Some(file) = idle.take() {
            if gathered.is_empty() {
                return Ok((file, total));
            }
            total += size as u64;
            size = 0;
            let chunks = std::mem::take(&mut gathered);
            writing = Some(spawn_blocking(move || write_chunks(file, &chunks)));
            continue;
        }
        let written = async {
            match &mut writing {
                Some(step) => finished(step).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            file = written => {
                idle = Some(file?);
                writing = None;
            }
            chunk = reader.next(), if !full => match chunk.transpose()? {
                Some(chunk) => {
                    size += chunk.len();
                    gathered.push(chunk);
                }
                None => ended = true,
            },
        }
    }
}

async fn finished<T>(step: impl Future<Output = JoinResult<T>>) -> io::Result<T> {
    step.await.map_err(io::Error::other)?
}

type JoinResult<T> = Result<io::Result<T>, tokio::task::JoinError>;

/// Reads a full chunk, less only at the end of the file.
fn read_chunk(file: File) -> io::Result<(File, Bytes)> {
    let mut chunk = Vec::with_capacity(READ_SIZE);
    // Fills the spare room without zeroing it first.
    (&file).take(READ_SIZE as u64).read_to_end(&mut chunk)?;
    Ok((file, chunk.into()))
}

fn write_chunks(mut file: File, chunks: &[Bytes]) -> io::Result<File> {
    let mut slices: Vec<_> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
    let mut slices = slices.as_mut_slice();
    // Empty slices would make a write of nothing look like a full device.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    fn pieces(data: &[u8], size: usize) -> ByteReader {
        let pieces: Vec<_> = data
            .chunks(size)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        Box::pin(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_file_keeps_its_bytes() {
        let data: Vec<u8> = (0..3_000_017u32).map(|byte| byte as u8).collect();
        for size in [1000, READ_SIZE, 2 * WRITE_SIZE] {
            let file = tempfile::tempfile().unwrap();
            let (mut file, written) = write_file(file, pieces(&data, size)).await.unwrap();
            assert_eq!(written, data.len() as u64);
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut reader = read_file(file);
            let mut back = Vec::new();
            while let Some(chunk) = reader.next().await {
                back.extend_from_slice(&chunk.unwrap());
            }
            assert!(back == data, "{size}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_while_the_source_is_silent() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let head = Bytes::from(vec![0; WRITE_SIZE]);
        let endless = futures::stream::iter([Ok(head)]).chain(futures::stream::pending());
        let error = write_file(file, Box::pin(endless)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn empty_chunks_are_no_full_disk() {
        let file = tempfile::tempfile().unwrap();
        let chunks = [
            Ok(Bytes::new()),
            Ok(Bytes::from_static(b"x")),
            Ok(Bytes::new()),
        ];
        let (_, written) = write_file(file, Box::pin(futures::stream::iter(chunks)))
            .await
            .unwrap();
        assert_eq!(written, 1);
    }
}

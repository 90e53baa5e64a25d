//! What every storage multiplexer does: run a client of yours through [`check`].

use bytes::Bytes;
use jmp_driver::{ByteReader, DriverHandle, Encoding, compression};

use super::StorageMuxClient;
use crate::resource::{Source, Target, TransferOptions};

/// What differs between storage multiplexers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits {
    /// Reading yields the whole medium, not just what was written last.
    pub fixed_size: bool,
    /// Neither reading nor writing works unless the storage is connected to the exporter.
    pub exclusive: bool,
}

/// Runs all checks.
///
/// # Panics
///
/// If one of them fails. The content of the storage is lost.
pub async fn check(handle: DriverHandle, traits: Traits) {
    let storage = StorageMuxClient::new(handle);
    positions_can_be_taken_in_any_order(&storage).await;
    what_is_written_is_read_back(&storage, traits).await;
    compressed_images_are_stored_decompressed(&storage, traits).await;
    a_bad_image_is_refused_and_the_next_one_taken(&storage, traits).await;
    if traits.exclusive {
        the_device_has_the_storage_for_itself(&storage).await;
    }
}

/// Test data that does not repeat at any power of two.
pub fn pattern(length: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    let bytes = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.collect()
}

/// Compresses data in memory.
///
/// # Panics
///
/// If the encoder fails, which it does not.
pub async fn compressed(data: Bytes, encoding: Encoding) -> Bytes {
    let source: ByteReader = Box::pin(futures::stream::iter([Ok(data)]));
    let chunks: Vec<Bytes> =
        futures::TryStreamExt::try_collect(compression::encode(encoding, source))
            .await
            .expect("compression in memory");
    chunks.concat().into()
}

async fn content(storage: &StorageMuxClient, options: &TransferOptions) -> Vec<u8> {
    let (target, read) = Target::memory();
    let (result, content) = futures::join!(storage.read_into(target, options), read);
    result.expect("reading the storage");
    content
}

async fn assert_content(storage: &StorageMuxClient, expected: &[u8], traits: Traits) {
    let content = content(storage, &TransferOptions::default()).await;
    if traits.fixed_size {
        assert!(content.starts_with(expected), "the storage has other data");
    } else {
        assert!(content == expected, "the storage has other data");
    }
}

async fn positions_can_be_taken_in_any_order(storage: &StorageMuxClient) {
    storage.host().await.expect("host");
    storage.dut().await.expect("host, dut");
    storage.dut().await.expect("dut twice");
    storage.off().await.expect("dut, off");
    storage.off().await.expect("off twice");
    storage.host().await.expect("off, host");
    storage.host().await.expect("host twice");
}

async fn what_is_written_is_read_back(storage: &StorageMuxClient, traits: Traits) {
    let options = TransferOptions::default();
    for (length, seed) in [(500_009, 1), (17, 2), (65_536, 3)] {
        let image = pattern(length, seed);
        storage
            .write_from(image.clone(), &options)
            .await
            .expect("writing");
        assert_content(storage, &image, traits).await;
    }
}

async fn compressed_images_are_stored_decompressed(storage: &StorageMuxClient, traits: Traits) {
    let image = pattern(150_001, 4);
    for encoding in Encoding::ALL {
        let options = TransferOptions {
            compression: Some(encoding),
            ..Default::default()
        };
        let source = compressed(image.clone(), encoding).await;
        storage
            .write_from(source, &options)
            .await
            .unwrap_or_else(|error| panic!("writing {encoding}: {error}"));
        assert_content(storage, &image, traits).await;
        let read = content(storage, &options).await;
        let source: ByteReader = Box::pin(futures::stream::iter([Ok(Bytes::from(read))]));
        let chunks: Vec<Bytes> =
            futures::TryStreamExt::try_collect(compression::decode(encoding, source))
                .await
                .unwrap_or_else(|error| panic!("what was read as {encoding}: {error}"));
        assert!(chunks.concat().starts_with(&image), "{encoding}");
    }
}

async fn a_bad_image_is_refused_and_the_next_one_taken(storage: &StorageMuxClient, traits: Traits) {
    let image = pattern(100_000, 5);
    let whole = compressed(image.clone(), Encoding::Gzip).await;
    let options = TransferOptions {
        compression: Some(Encoding::Gzip),
        ..Default::default()
    };
    let torn = Source::Bytes(whole.slice(..whole.len() / 2));
    let error = storage
        .write_from(torn, &options)
        .await
        .expect_err("half of an image was taken for a whole one");
    assert!(error.message().contains("truncated"), "{error}");
    storage.write_from(whole, &options).await.expect("writing");
    assert_content(storage, &image, traits).await;
}

async fn the_device_has_the_storage_for_itself(storage: &StorageMuxClient) {
    let options = TransferOptions::default();
    for position in ["dut", "off"] {
        let _: () = storage.handle().call(position, ()).await.expect(position);
        storage
            .write_from(pattern(10, 6), &options)
            .await
            .expect_err(position);
        let (target, read) = Target::memory();
        let (result, _) = futures::join!(storage.read_into(target, &options), read);
        result.expect_err(position);
    }
    storage.host().await.expect("host");
}

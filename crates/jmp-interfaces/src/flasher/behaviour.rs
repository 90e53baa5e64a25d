//! What every flasher does: run a client of yours through [`check`].

use jmp_driver::{DriverHandle, Encoding};

use super::FlasherClient;
use crate::resource::{Source, Target, TransferOptions};
use crate::storage_mux::behaviour::{compressed, pattern};

/// Runs all checks on a device with the given partition.
///
/// # Panics
///
/// If one of them fails. The content of the partition is lost.
pub async fn check(handle: DriverHandle, partition: Option<&str>) {
    let flasher = FlasherClient::new(handle);
    what_is_flashed_is_dumped(&flasher, partition).await;
    compressed_images_are_decompressed(&flasher, partition).await;
    a_bad_image_is_refused_and_the_next_one_taken(&flasher, partition).await;
}

async fn content(flasher: &FlasherClient, partition: Option<&str>) -> Vec<u8> {
    let options = TransferOptions::default();
    let (target, read) = Target::memory();
    let (result, content) = futures::join!(flasher.dump_into(target, partition, &options), read);
    result.expect("dumping");
    content
}

async fn what_is_flashed_is_dumped(flasher: &FlasherClient, partition: Option<&str>) {
    let image = pattern(500_009, 11);
    flasher
        .flash_from(image.clone(), partition, &TransferOptions::default())
        .await
        .expect("flashing");
    assert!(content(flasher, partition).await.starts_with(&image));
}

async fn compressed_images_are_decompressed(flasher: &FlasherClient, partition: Option<&str>) {
    let image = pattern(150_001, 12);
    for encoding in Encoding::ALL {
        let options = TransferOptions {
            compression: Some(encoding),
            ..Default::default()
        };
        let source = compressed(image.clone(), encoding).await;
        flasher
            .flash_from(source, partition, &options)
            .await
            .unwrap_or_else(|error| panic!("flashing {encoding}: {error}"));
        assert!(content(flasher, partition).await.starts_with(&image));
    }
}

async fn a_bad_image_is_refused_and_the_next_one_taken(
    flasher: &FlasherClient,
    partition: Option<&str>,
) {
    let image = pattern(100_000, 13);
    let whole = compressed(image.clone(), Encoding::Zstd).await;
    let options = TransferOptions {
        compression: Some(Encoding::Zstd),
        ..Default::default()
    };
    let torn = Source::Bytes(whole.slice(..whole.len() / 2));
    flasher
        .flash_from(torn, partition, &options)
        .await
        .expect_err("half of an image was taken for a whole one");
    flasher
        .flash_from(whole, partition, &options)
        .await
        .expect("flashing");
    assert!(content(flasher, partition).await.starts_with(&image));
}

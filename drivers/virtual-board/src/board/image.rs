//! The image that the board boots from.
//!
//! A card holds a header of 512 bytes, then the root file system (the
//! payload). Integers are little-endian; text is printable ASCII, padded with
//! zero bytes.
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic, `JMPBOARD` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | payload length in bytes |
//! | 24 | 32 | SHA-256 of the payload |
//! | 56 | 32 | version of the system, shown by `/etc/os-release` |
//! | 88 | 32 | host name; empty leaves it to the board |
//! | 120 | 328 | kernel command line: the default of U-Boot's `bootargs` |
//! | 448 | 32 | zero |
//! | 480 | 32 | SHA-256 of bytes 0 to 479 |
//!
//! The boot ROM checks the header, U-Boot the payload, so that a damaged card
//! fails where a real one would.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::config::is_hostname;
use super::random::SplitMix64;

/// Length of the header in bytes; the payload follows it.
pub const HEADER_LENGTH: usize = 512;

const MAGIC: &[u8; 8] = b"JMPBOARD";
const FORMAT_VERSION: u32 = 1;
const VERSION_FIELD: (usize, usize) = (56, 88);
const HOSTNAME_FIELD: (usize, usize) = (88, 120);
const COMMAND_LINE_FIELD: (usize, usize) = (120, 448);
const CHECKED_LENGTH: usize = 480;
/// Half pseudo-random, half zero: it neither compresses away nor not at all.
const PAYLOAD_BLOCK: usize = 8192;

/// What the first 512 bytes of a card say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHeader {
    /// Version of the system, at most 32 bytes.
    pub version: String,
    /// Host name, at most 32 bytes; empty leaves it to the board.
    pub hostname: String,
    /// Default kernel command line, at most 328 bytes.
    pub command_line: String,
    /// Length of the payload in bytes.
    pub payload_length: u64,
    /// SHA-256 of the payload.
    pub payload_digest: [u8; 32],
}

/// What to make an image of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOptions {
    /// Version of the system.
    pub version: String,
    /// Host name; empty leaves it to the board.
    pub hostname: String,
    /// Default kernel command line.
    pub command_line: String,
    /// Length of the whole image in bytes, header included.
    pub length: u64,
    /// Start of the pseudo-random payload: the same options make the same bytes.
    pub seed: u64,
}

/// Why bytes are not an image, or an image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Fewer bytes than a header has.
    #[error("{length} bytes are too few for an image, whose header alone has 512")]
    TooShort {
        /// How many bytes there are.
        length: u64,
    },
    /// The magic is not there: not an image, or an empty card.
    #[error("no board image: it does not start with `JMPBOARD`")]
    BadMagic,
    /// The header was changed after it was made.
    #[error("the image header is damaged: its digest does not match")]
    BadHeaderDigest,
    /// An image of a later format.
    #[error("image format {found} is not known to this board, which reads format 1")]
    UnsupportedFormat {
        /// The format version of the header.
        found: u32,
    },
    /// A text field has bytes that it must not have, or too many.
    #[error("`{field}` of the image must be at most {limit} bytes of {kind}")]
    BadText {
        /// Name of the field.
        field: &'static str,
        /// How many bytes it may have.
        limit: usize,
        /// The characters that it may have.
        kind: &'static str,
    },
    /// The image could not be written.
    #[error("writing the image failed")]
    Write(#[from] io::Error),
}

// === impl ImageHeader ===

impl ImageHeader {
    /// The header as it stands on the card.
    ///
    /// # Errors
    /// [`ImageError::BadText`] for a field that does not fit.
    pub fn encode(&self) -> Result<[u8; HEADER_LENGTH], ImageError> {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_length.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.payload_digest);
        for (field, range, text) in [
            ("version", VERSION_FIELD, &self.version),
            ("hostname", HOSTNAME_FIELD, &self.hostname),
            ("command_line", COMMAND_LINE_FIELD, &self.command_line),
        ] {
            check_text(field, range, text)?;
            bytes[range.0..range.0 + text.len()].copy_from_slice(text.as_bytes());
        }
        let digest = Sha256::digest(&bytes[..CHECKED_LENGTH]);
        bytes[CHECKED_LENGTH..].copy_from_slice(&digest);
        Ok(bytes)
    }
}

/// Reads the header at the start of a card or image file.
///
/// # Errors
/// What is wrong with it, in the order in which the boot ROM looks: length,
/// magic, digest, format, text.
pub fn parse_header(bytes: &[u8]) -> Result<ImageHeader, ImageError> {
    let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
        return Err(ImageError::TooShort {
            length: bytes.len() as u64,
        });
    };
    if &header[..8] != MAGIC {
        return Err(ImageError::BadMagic);
    }
    if Sha256::digest(&header[..CHECKED_LENGTH])[..] != header[CHECKED_LENGTH..] {
        return Err(ImageError::BadHeaderDigest);
    }
    let format = u32::from_le_bytes(field(header, 8));
    if format != FORMAT_VERSION {
        return Err(ImageError::UnsupportedFormat { found: format });
    }
    Ok(ImageHeader {
        version: text(header, "version", VERSION_FIELD)?,
        hostname: text(header, "hostname", HOSTNAME_FIELD)?,
        command_line: text(header, "command_line", COMMAND_LINE_FIELD)?,
        payload_length: u64::from_le_bytes(field(header, 16)),
        payload_digest: field(header, 24),
    })
}

fn field<const LENGTH: usize>(header: &[u8; HEADER_LENGTH], offset: usize) -> [u8; LENGTH] {
    std::array::from_fn(|index| header[offset + index])
}

fn text(
    header: &[u8; HEADER_LENGTH],
    name: &'static str,
    range: (usize, usize),
) -> Result<String, ImageError> {
    let padded = &header[range.0..range.1];
    let end = padded
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&padded[..end]).into_owned();
    check_text(name, range, &text)?;
    Ok(text)
}

/// Header text ends up in prompts and quoted files of the simulated system, so
/// nothing that could break out of them is let in.
fn check_text(field: &'static str, range: (usize, usize), text: &str) -> Result<(), ImageError> {
    let limit = range.1 - range.0;
    let (fits, kind) = if field == "hostname" {
        (
            text.is_empty() || is_hostname(text),
            "letters, digits, `-` and `.`",
        )
    } else {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"'\\`$".contains(&byte);
        (
            text.bytes().all(plain),
            "printable ASCII without quotes, `\\` and `$`",
        )
    };
    if fits && text.len() <= limit {
        return Ok(());
    }
    Err(ImageError::BadText { field, limit, kind })
}

// === impl ImageOptions ===

impl Default for ImageOptions {
    /// An image of 1 MiB.
    fn default() -> Self {
        Self {
            version: "1.0".to_owned(),
            hostname: String::new(),
            command_line: "console=ttyS0,115200 root=/dev/mmcblk0p1 rootwait".to_owned(),
            length: 1 << 20,
            seed: 0,
        }
    }
}

impl ImageOptions {
    fn payload_length(&self) -> Result<u64, ImageError> {
        let length = self.length;
        length
            .checked_sub(HEADER_LENGTH as u64)
            .ok_or(ImageError::TooShort { length })
    }

    /// The header of the image that these options make. Takes as long as
    /// generating and hashing the payload once.
    ///
    /// # Errors
    /// [`ImageError::TooShort`] for a length below 512, [`ImageError::BadText`].
    pub fn header(&self) -> Result<ImageHeader, ImageError> {
        let payload_length = self.payload_length()?;
        let mut hasher = Sha256::new();
        for_each_block(self.seed, payload_length, |block| {
            hasher.update(block);
            Ok(())
        })?;
        Ok(ImageHeader {
            version: self.version.clone(),
            hostname: self.hostname.clone(),
            command_line: self.command_line.clone(),
            payload_length,
            payload_digest: hasher.finalize().into(),
        })
    }
}

/// Writes an image without holding it in memory. The payload is generated
/// twice, because its digest stands before it.
///
/// # Errors
/// As [`ImageOptions::header`], and [`ImageError::Write`] from the writer.
pub fn write_image(options: &ImageOptions, writer: &mut dyn Write) -> Result<(), ImageError> {
    let header = options.header()?;
    writer.write_all(&header.encode()?)?;
    for_each_block(options.seed, header.payload_length, |block| {
        writer.write_all(block)
    })?;
    Ok(writer.flush()?)
}

/// Makes an image in memory.
///
/// # Errors
/// As [`ImageOptions::header`].
pub fn build_image(options: &ImageOptions) -> Result<Vec<u8>, ImageError> {
    let mut image = Vec::new();
    write_image(options, &mut image)?;
    Ok(image)
}

fn for_each_block(
    seed: u64,
    length: u64,
    mut consume: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut random = SplitMix64::new(seed);
    let mut block = [0; PAYLOAD_BLOCK];
    let mut left = length;
    while left > 0 {
        for word in block[..PAYLOAD_BLOCK / 2].as_chunks_mut::<8>().0 {
            *word = random.next_u64().to_le_bytes();
        }
        let taken = left.min(PAYLOAD_BLOCK as u64);
        consume(&block[..taken as usize])?;
        left -= taken;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(length: u64) -> ImageOptions {
        ImageOptions {
            hostname: "demo".to_owned(),
            length,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_built_reads_back() {
        for length in [512, 513, 8704, 20_000] {
            let image = build_image(&options(length)).unwrap();
            assert_eq!(image.len() as u64, length);
            let header = parse_header(&image).unwrap();
            assert_eq!(header, options(length).header().unwrap());
            assert_eq!(
                header.payload_digest,
                <[u8; 32]>::from(Sha256::digest(&image[512..]))
            );
        }
        assert_eq!(
            build_image(&options(9000)).unwrap(),
            build_image(&options(9000)).unwrap()
        );
    }

    #[test]
    fn any_changed_header_byte_is_noticed() {
        let image = build_image(&options(512)).unwrap();
        for offset in 0..HEADER_LENGTH {
            let mut damaged = image.clone();
            damaged[offset] ^= 0x10;
            assert!(parse_header(&damaged).is_err(), "byte {offset}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = ImageOptions {
            version: "v".repeat(33),
            ..options(512)
        };
        let control = ImageOptions {
            command_line: "a\nb".to_owned(),
            ..options(512)
        };
        let name = ImageOptions {
            hostname: "no spaces".to_owned(),
            ..options(512)
        };
        for refused in [long, control, name] {
            assert!(matches!(
                build_image(&refused),
                Err(ImageError::BadText { .. })
            ));
        }
        assert!(matches!(
            build_image(&options(511)),
            Err(ImageError::TooShort { length: 511 })
        ));
        assert!(matches!(
            parse_header(&[0; 100]),
            Err(ImageError::TooShort { length: 100 })
        ));
        assert!(matches!(parse_header(&[0; 512]), Err(ImageError::BadMagic)));
    }
}

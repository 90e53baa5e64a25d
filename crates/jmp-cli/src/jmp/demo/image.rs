//! The image that the demo writes: made for the occasion or a file of the user's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use driver_all::virtual_board::board::{HEADER_LENGTH, ImageOptions, parse_header, write_image};

use super::Args;
use crate::error::CliError;

/// Version of the system on an image that the demo makes.
const VERSION: &str = "2026.1";

/// A file that can be written to the board.
#[derive(Debug)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// How long it is, in bytes.
    pub length: u64,
    /// The version of the system, if the board will recognise the image.
    pub version: Option<String>,
}

// === impl Image ===

impl Image {
    /// Prepares the image, in `directory` unless it is used as it is.
    ///
    /// # Errors
    ///
    /// When it cannot be read or made.
    pub fn prepare(arguments: &Args, directory: &Path) -> Result<Self, CliError> {
        let made = directory.join("image");
        let path = match &arguments.image {
            None => {
                make(&made, arguments.image_size << 20)?;
                made
            }
            Some(path) if arguments.corrupt => {
                std::fs::copy(path, &made).map_err(|error| unreadable(path, &error))?;
                made
            }
            Some(path) => path.clone(),
        };
        let image = Self::inspect(path)?;
        if arguments.corrupt {
            corrupt(&image.path, image.length)?;
        }
        Ok(image)
    }

    fn inspect(path: PathBuf) -> Result<Self, CliError> {
        let inspected = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            let mut header = Vec::with_capacity(HEADER_LENGTH);
            file.take(HEADER_LENGTH as u64).read_to_end(&mut header)?;
            Ok((length, header))
        });
        let (length, header) = inspected.map_err(|error| unreadable(&path, &error))?;
        Ok(Self {
            length,
            version: parse_header(&header).ok().map(|header| header.version),
            path,
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format!(
        "the image {} cannot be read: {error}",
        path.display()
    ))
}

fn make(path: &Path, length: u64) -> Result<(), CliError> {
    let options = ImageOptions {
        version: VERSION.to_owned(),
        hostname: "demo".to_owned(),
        length,
        ..ImageOptions::default()
    };
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    write_image(&options, &mut file)
        .map_err(|error| CliError::new(format!("cannot make an image: {error}")))
}

/// Flips a bit in the middle: in the payload, if there is any.
fn corrupt(path: &Path, length: u64) -> Result<(), CliError> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(length / 2))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(length / 2))?;
    Ok(file.write_all(&byte)?)
}

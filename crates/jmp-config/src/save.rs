//! Writing files: YAML that YAML 1.1 readers understand alike, and replacement that survives a crash.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::Error;

/// The value as YAML, keys in the order given. Texts that YAML 1.1 would take for something else are quoted.
pub(crate) fn to_yaml(value: &Value) -> Result<String, io::Error> {
    let options = serde_saphyr::ser_options! {
        // A folded token would come back with line breaks in some readers.
        folded_wrap_chars: usize::MAX,
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Replaces `path` in one step with `text`, mode 0600, synchronised to disk; missing directories are
/// made with mode 0700. A symbolic link stays and its target is replaced.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    write_replacing(path, text).map_err(|source| Error::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn write_replacing(path: &Path, text: &str) -> io::Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    make_private_directory(&directory)?;
    // A named temporary file has mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(&directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    // Without this the new name may be lost in a crash although the content is safe.
    File::open(&directory)?.sync_all()
}

fn make_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

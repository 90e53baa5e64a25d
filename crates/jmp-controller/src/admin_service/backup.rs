//! A copy of the store on its way to an administrator.

use std::path::{Path, PathBuf};

use futures::Stream;
use jmp_proto::jmp::v1::BackupChunk;
use jmp_store::{MemoryStore, SqliteStore};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tonic::Status;

/// Bytes in one message.
const CHUNK: usize = 256 * 1024;

/// Makes copies of the store while it is in use. Stores that make none say so by leaving it at that.
#[tonic::async_trait]
pub trait BackupSource: Send + Sync {
    /// Where copies are put together: private, on a disk with room for one. `None` for a store that
    /// makes none.
    fn folder(&self) -> Option<PathBuf> {
        None
    }

    /// Writes a complete copy to `target`, which does not exist yet.
    ///
    /// # Errors
    /// Why there is no copy, for people.
    async fn copy_to(&self, target: &Path) -> Result<(), String> {
        Err(format!("nothing can be copied to {}", target.display()))
    }
}

#[tonic::async_trait]
impl BackupSource for SqliteStore {
    fn folder(&self) -> Option<PathBuf> {
        self.path().parent().map(Path::to_owned)
    }

    async fn copy_to(&self, target: &Path) -> Result<(), String> {
        self.backup(target)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

impl BackupSource for MemoryStore {}

/// Makes a copy that has no name any more by the time it is sent, so that none is left behind.
pub(super) async fn copy(source: &dyn BackupSource) -> Result<File, Status> {
    let folder = source.folder().ok_or_else(|| {
        Status::unimplemented("this controller's store makes no backups: back up its database")
    })?;
    let failed = |error: std::io::Error| {
        Status::unavailable(format!(
            "cannot put a backup together in the data directory: {error}"
        ))
    };
    let private = tempfile::Builder::new()
        .prefix("backup-")
        .tempdir_in(folder)
        .map_err(failed)?;
    let target = private.path().join("store.db");
    source.copy_to(&target).await.map_err(Status::unavailable)?;
    File::open(&target).await.map_err(failed)
}

/// The file in pieces.
pub(super) fn chunks(mut file: File) -> impl Stream<Item = Result<BackupChunk, Status>> + Send {
    async_stream::try_stream! {
        loop {
            let mut piece = vec![0; CHUNK];
            let read = file.read(&mut piece).await.map_err(|error| {
                Status::data_loss(format!("the backup ends early: cannot read it: {error}"))
            })?;
            if read == 0 {
                break;
            }
            piece.truncate(read);
            yield BackupChunk { data: piece };
        }
    }
}

//! The OpenDAL driver.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use jmp_driver::{Driver, Error, Interface, Logger, OpenContext, Resource, Result};
use jmp_interfaces::opendal::{
    Capability, HashAlgorithm, Metadata, OpenMode, Opendal, PresignedRequest, opendal_interface,
};
use opendal::{Lister, Operator};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Digest;
use uuid::Uuid;

use crate::created::{self, Created};
use crate::files::Files;
use crate::service::{self, failed};

/// Which service, and how to reach it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OpendalConfig {
    /// The service: `fs`, `memory`, `http` or `s3`.
    pub scheme: String,
    /// Options of the service, for example `root` (fs), `endpoint` (http, s3) or `bucket` (s3);
    /// may be empty, but must be there.
    pub kwargs: BTreeMap<String, String>,
    /// Removes at the end of a session what was made during it; scheme `fs` only.
    #[serde(default)]
    pub remove_created_on_close: bool,
}

/// Files of an OpenDAL service.
pub struct OpendalDriver {
    operator: Operator,
    root: Option<String>,
    files: Files,
    created: Created,
    remove_created: bool,
    log: Logger,
}

impl Driver for OpendalDriver {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_opendal.driver.Opendal"];
    const SUMMARY: &'static str = "Files of an OpenDAL service: a directory, HTTP, S3, memory";
    type Config = OpendalConfig;

    async fn open(config: OpendalConfig, context: OpenContext) -> Result<Self> {
        let operator = service::open(&config.scheme, &config.kwargs)?;
        let local = operator.info().scheme() == "fs";
        Ok(Self {
            files: Files::new(operator.clone()),
            root: local.then(|| operator.info().root()),
            operator,
            created: Created::default(),
            remove_created: config.remove_created_on_close,
            log: context.log,
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![opendal_interface()]
    }

    async fn close(&self) {
        for error in self.files.close_all().await {
            self.log.warning(format!("closing an open file: {error}"));
        }
        let paths = self.created.take();
        if !self.remove_created || paths.is_empty() {
            return;
        }
        let Some(root) = self.root.clone() else {
            self.log.warning(format!(
                "remove_created_on_close works with scheme fs only; {} entries stay",
                paths.len()
            ));
            return;
        };
        let removal = move || created::remove(Path::new(&root), &paths);
        match tokio::task::spawn_blocking(removal).await {
            Ok(failures) => {
                for (path, error) in failures {
                    self.log
                        .warning(format!("removing {}: {error}", path.display()));
                }
            }
            Err(error) => self.log.warning(format!("removing what was made: {error}")),
        }
    }
}

impl Opendal for OpendalDriver {
    async fn open(&self, path: String, mode: OpenMode) -> Result<Uuid> {
        let id = self.files.open(path.clone(), mode).await?;
        if mode == OpenMode::Write {
            self.created.add(&path);
        }
        Ok(id)
    }

    async fn file_read(&self, fd: Uuid, target: Resource) -> Result<()> {
        self.files.read(fd, target).await
    }

    async fn file_write(&self, fd: Uuid, source: Resource) -> Result<()> {
        self.files.write(fd, source).await
    }

    async fn file_seek(&self, fd: Uuid, position: i64, whence: u8) -> Result<u64> {
        self.files.seek(fd, position, whence).await
    }

    async fn file_tell(&self, fd: Uuid) -> Result<u64> {
        self.files.tell(fd).await
    }

    async fn file_close(&self, fd: Uuid) -> Result<()> {
        self.files.close(fd).await
    }

    async fn file_closed(&self, fd: Uuid) -> Result<bool> {
        self.files.is_closed(fd).await
    }

    async fn file_readable(&self, fd: Uuid) -> Result<bool> {
        self.files.is_open(fd, OpenMode::Read).await
    }

    async fn file_seekable(&self, fd: Uuid) -> Result<bool> {
        self.files.is_open(fd, OpenMode::Read).await
    }

    async fn file_writable(&self, fd: Uuid) -> Result<bool> {
        self.files.is_open(fd, OpenMode::Write).await
    }

    async fn stat(&self, path: String) -> Result<Metadata> {
        let metadata = self.operator.stat(&path).await.map_err(failed)?;
        Ok(service::metadata(&metadata))
    }

    async fn hash(&self, path: String, algo: HashAlgorithm) -> Result<String> {
        match algo {
            HashAlgorithm::Sha256 => self.digest::<sha2::Sha256>(&path).await,
            HashAlgorithm::Md5 => self.digest::<md5::Md5>(&path).await,
        }
    }

    async fn copy(&self, source: String, target: String) -> Result<()> {
        self.operator.copy(&source, &target).await.map_err(failed)?;
        self.created.add(&target);
        Ok(())
    }

    async fn rename(&self, source: String, target: String) -> Result<()> {
        self.operator
            .rename(&source, &target)
            .await
            .map_err(failed)?;
        self.created.forget(&source);
        self.created.add(&target);
        Ok(())
    }

    async fn remove_all(&self, path: String) -> Result<()> {
        let removal = self.operator.delete_with(&path).recursive(true);
        removal.await.map_err(failed)?;
        self.created.forget_all(&path);
        Ok(())
    }

    async fn create_dir(&self, path: String) -> Result<()> {
        self.operator.create_dir(&path).await.map_err(failed)?;
        self.created.add(&path);
        Ok(())
    }

    async fn delete(&self, path: String) -> Result<()> {
        self.operator.delete(&path).await.map_err(failed)?;
        self.created.forget(&path);
        Ok(())
    }

    async fn exists(&self, path: String) -> Result<bool> {
        self.operator.exists(&path).await.map_err(failed)
    }

    fn list(&self, path: String) -> impl Stream<Item = Result<String>> + Send {
        entries(self.operator.clone(), path, false)
    }

    fn scan(&self, path: String) -> impl Stream<Item = Result<String>> + Send {
        entries(self.operator.clone(), path, true)
    }

    async fn presign_stat(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        let expire = Duration::from_secs(expire_second);
        let request = self.operator.presign_stat(&path, expire).await;
        service::presigned(&request.map_err(failed)?)
    }

    async fn presign_read(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        let expire = Duration::from_secs(expire_second);
        let request = self.operator.presign_read(&path, expire).await;
        service::presigned(&request.map_err(failed)?)
    }

    async fn presign_write(&self, path: String, expire_second: u64) -> Result<PresignedRequest> {
        let expire = Duration::from_secs(expire_second);
        let request = self.operator.presign_write(&path, expire).await;
        service::presigned(&request.map_err(failed)?)
    }

    async fn capability(&self) -> Result<Capability> {
        Ok(service::capability(&self.operator))
    }

    async fn get_created_resources(&self) -> Result<Vec<String>> {
        Ok(self.created.list())
    }

    async fn register_path(&self, path: String) -> Result<()> {
        self.created.add(&path);
        Ok(())
    }
}

// === impl OpendalDriver ===

impl OpendalDriver {
    async fn digest<D: Digest + Send>(&self, path: &str) -> Result<String> {
        let reader = self.operator.reader(path).await.map_err(failed)?;
        let mut chunks = reader.into_stream(..).await.map_err(failed)?;
        let mut digest = D::new();
        while let Some(buffer) = chunks.try_next().await.map_err(failed)? {
            for chunk in buffer {
                digest.update(&chunk);
                // A chunk takes a while; others want to run, too.
                tokio::task::yield_now().await;
            }
        }
        let digits = digest.finalize();
        Ok(digits.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A listing on its way.
struct Listing {
    lister: Lister,
    /// The listed directory, which is an entry of its own.
    directory: String,
    listed: bool,
    found: bool,
    ended: bool,
}

fn entries(
    operator: Operator,
    path: String,
    recursive: bool,
) -> impl Stream<Item = Result<String>> + Send + 'static {
    let start = async move {
        let lister = operator.lister_with(&path).recursive(recursive);
        let lister = lister.await.map_err(failed)?;
        let trimmed = path.trim_matches('/');
        let directory = if trimmed.is_empty() {
            "/".to_owned()
        } else {
            path.trim_start_matches('/').to_owned()
        };
        Ok::<_, Error>(futures::stream::try_unfold(
            Listing {
                lister,
                directory,
                listed: false,
                found: false,
                ended: false,
            },
            Listing::next,
        ))
    };
    futures::stream::once(start).try_flatten()
}

// === impl Listing ===

impl Listing {
    async fn next(mut self) -> Result<Option<(String, Self)>> {
        if self.ended {
            return Ok(None);
        }
        if let Some(entry) = self.lister.next().await {
            let entry = entry.map_err(failed)?;
            let path = match entry.path() {
                "" => "/",
                path => path,
            };
            self.found = true;
            self.listed |= path == self.directory;
            return Ok(Some((path.to_owned(), self)));
        }
        self.ended = true;
        // Not all services list the directory itself.
        let missing = !self.listed && self.directory.ends_with('/');
        if missing && (self.found || self.directory == "/") {
            let directory = self.directory.clone();
            return Ok(Some((directory, self)));
        }
        Ok(None)
    }
}

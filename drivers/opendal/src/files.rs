//! Files that clients have open.
//!
//! A file belongs to the session, as in shipped exporters: its id can be used from any
//! connection. One transfer at a time runs on a file. A transfer that fails or whose caller goes
//! away breaks a file that is written: the torn remains are removed and later calls say why.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jmp_driver::{Error, Resource, Result};
use jmp_interfaces::opendal::OpenMode;
use opendal::{Buffer, Operator, Reader, Writer};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::service::failed;

/// Files that may be open at one time.
const LIMIT: usize = 1024;
/// Bytes gathered before they are written at once.
const WRITE_SIZE: usize = 1024 * 1024;
/// Parts that are uploaded at the same time, by services that write in parts.
const CONCURRENT_PARTS: usize = 2;
/// How long open files may take to close at the end of a session.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// The open files of a driver.
pub struct Files {
    operator: Operator,
    table: Mutex<HashMap<Uuid, Arc<OpenFile>>>,
    /// Owns the removal of torn files.
    tasks: TaskTracker,
}

struct OpenFile {
    mode: OpenMode,
    path: String,
    state: tokio::sync::Mutex<State>,
}

enum State {
    Reading {
        reader: Reader,
        length: u64,
        position: u64,
    },
    Writing {
        writer: Writer,
        position: u64,
    },
    Closed,
    Broken(String),
}

// === impl Files ===

impl Files {
    /// No open files.
    pub fn new(operator: Operator) -> Self {
        Self {
            operator,
            table: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<OpenFile>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: Uuid) -> Result<Arc<OpenFile>> {
        let file = self.table().get(&id).map(Arc::clone);
        file.ok_or_else(|| Error::other(format!("there is no open file {id}")))
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// If there is no such file to read, it cannot be written, or too many are open.
    pub async fn open(&self, path: String, mode: OpenMode) -> Result<Uuid> {
        let state = match mode {
            OpenMode::Read => self.reading(&path).await?,
            OpenMode::Write => State::Writing {
                writer: self.writer(&path).await?,
                position: 0,
            },
        };
        let mut table = self.table();
        if table.len() >= LIMIT {
            // What is closed is only kept to say so.
            table.retain(|_, file| {
                !matches!(
                    file.state.try_lock().as_deref(),
                    Ok(State::Closed | State::Broken(_))
                )
            });
        }
        if table.len() >= LIMIT {
            return Err(Error::other(format!(
                "{LIMIT} files are open in this session; close some first"
            )));
        }
        let id = Uuid::new_v4();
        let file = OpenFile {
            mode,
            path,
            state: state.into(),
        };
        table.insert(id, Arc::new(file));
        Ok(id)
    }

    async fn reading(&self, path: &str) -> Result<State> {
        let metadata = self.operator.stat(path).await.map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::other(format!(
                "IsADirectory (permanent) at read => `{path}` is a directory"
            )));
        }
        Ok(State::Reading {
            reader: self.operator.reader(path).await.map_err(failed)?,
            length: metadata.content_length(),
            position: 0,
        })
    }

    async fn writer(&self, path: &str) -> Result<Writer> {
        let in_parts = self
            .operator
            .info()
            .capability()
            .write_multi_min_size
            .is_some();
        let writer = self.operator.writer_with(path);
        let writer = if in_parts {
            writer.concurrent(CONCURRENT_PARTS)
        } else {
            writer
        };
        writer.await.map_err(failed)
    }

    /// Sends a file from its position to the end. A file that is written has nothing to send.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn read(&self, id: Uuid, target: Resource) -> Result<()> {
        let file = self.get(id)?;
        let mut state = file.state.lock().await;
        match &mut *state {
            State::Reading {
                reader, position, ..
            } => {
                let moved = Arc::new(AtomicU64::new(0));
                let counter = Arc::clone(&moved);
                let start = *position;
                let chunks = reader
                    .clone()
                    .into_bytes_stream(start..)
                    .await
                    .map_err(failed)?
                    .map_err(|error| match error.downcast::<opendal::Error>() {
                        Ok(error) => failed(error).into(),
                        Err(error) => error,
                    })
                    .inspect_ok(move |chunk: &Bytes| {
                        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    });
                let sent = target.write_from(Box::pin(chunks)).await;
                *position = start + moved.load(Ordering::Relaxed);
                sent.map(drop)
            }
            State::Writing { .. } => {
                let nothing = futures::stream::empty();
                target.write_from(Box::pin(nothing)).await.map(drop)
            }
            ended => Err(ended.refuse("reading")),
        }
    }

    /// Appends the data of a resource to a file.
    ///
    /// # Errors
    ///
    /// If either side breaks; the file is broken then.
    pub async fn write(&self, id: Uuid, source: Resource) -> Result<()> {
        let file = self.get(id)?;
        let mut state = file.state.lock().await;
        if !matches!(&*state, State::Writing { .. }) {
            return Err(state.refuse("writing"));
        }
        let unfinished = State::Broken("a transfer into it was given up".into());
        let State::Writing {
            writer,
            mut position,
        } = std::mem::replace(&mut *state, unfinished)
        else {
            return Err(state.refuse("writing"));
        };
        let mut torn = Torn::new(self, writer, &file.path);
        match append(torn.writer()?, source, &mut position).await {
            Ok(()) => {
                let writer = torn.recover()?;
                *state = State::Writing { writer, position };
                Ok(())
            }
            Err(error) => {
                *state = State::Broken(error.to_string());
                Err(error)
            }
        }
    }

    /// Moves the position of a file that is read.
    ///
    /// # Errors
    ///
    /// If the file is not read, or the position would lie before its start.
    pub async fn seek(&self, id: Uuid, offset: i64, whence: u8) -> Result<u64> {
        let file = self.get(id)?;
        let mut state = file.state.lock().await;
        let State::Reading {
            length, position, ..
        } = &mut *state
        else {
            return Err(state.refuse("seeking"));
        };
        let base = match whence {
            0 => 0,
            1 => *position,
            2 => *length,
            _ => {
                return Err(Error::invalid_argument(format!(
                    "whence is {whence}; 0 (start), 1 (current position) and 2 (end) can be used"
                )));
            }
        };
        let target = base.checked_add_signed(offset).ok_or_else(|| {
            Error::invalid_argument("a file has no position before its start".to_owned())
        })?;
        *position = target;
        Ok(target)
    }

    /// The position of a file.
    ///
    /// # Errors
    ///
    /// If the file is closed.
    pub async fn tell(&self, id: Uuid) -> Result<u64> {
        let file = self.get(id)?;
        let state = file.state.lock().await;
        match &*state {
            State::Reading { position, .. } | State::Writing { position, .. } => Ok(*position),
            ended => Err(ended.refuse("telling the position of")),
        }
    }

    /// Closes a file; closing it again does nothing, nor does closing a broken one.
    ///
    /// # Errors
    ///
    /// If what was written cannot be completed.
    pub async fn close(&self, id: Uuid) -> Result<()> {
        let file = self.get(id)?;
        let mut state = file.state.lock().await;
        let broken = matches!(&*state, State::Broken(_));
        let previous = std::mem::replace(&mut *state, State::Closed);
        match previous {
            State::Writing { writer, .. } => {
                let mut torn = Torn::new(self, writer, &file.path);
                torn.writer()?.close().await.map_err(failed)?;
                torn.recover().map(drop)
            }
            previous if broken => {
                *state = previous;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a file is closed.
    ///
    /// # Errors
    ///
    /// If there never was such a file.
    pub async fn is_closed(&self, id: Uuid) -> Result<bool> {
        let file = self.get(id)?;
        let state = file.state.lock().await;
        Ok(matches!(&*state, State::Closed | State::Broken(_)))
    }

    /// Whether a file is open in the given mode.
    ///
    /// # Errors
    ///
    /// If there never was such a file.
    pub async fn is_open(&self, id: Uuid, mode: OpenMode) -> Result<bool> {
        let closed = self.is_closed(id).await?;
        Ok(!closed && self.get(id)?.mode == mode)
    }

    /// Closes everything, at the end of a session. Returns what could not be completed.
    pub async fn close_all(&self) -> Vec<Error> {
        let ids: Vec<_> = self.table().keys().copied().collect();
        let closing = async {
            let mut failures = Vec::new();
            for id in ids {
                failures.extend(self.close(id).await.err());
            }
            self.tasks.close();
            self.tasks.wait().await;
            failures
        };
        match tokio::time::timeout(CLOSE_TIME, closing).await {
            Ok(failures) => failures,
            Err(_) => vec![Error::timeout("open files did not close in time")],
        }
    }
}

// === impl State ===

impl State {
    fn refuse(&self, what: &str) -> Error {
        Error::other(match self {
            Self::Reading { .. } => format!("{what} a file that is open for reading"),
            Self::Writing { .. } => format!("{what} a file that is open for writing"),
            Self::Closed => format!("{what} a file that is closed"),
            Self::Broken(why) => format!("{what} a file that is broken: {why}"),
        })
    }
}

async fn append(writer: &mut Writer, source: Resource, position: &mut u64) -> Result<()> {
    let mut reader = source.into_reader().await?;
    let mut gathered = Vec::new();
    let mut size = 0;
    loop {
        let chunk = reader.next().await.transpose()?;
        let ended = chunk.is_none();
        if let Some(chunk) = chunk {
            size += chunk.len();
            gathered.push(chunk);
        }
        if size >= WRITE_SIZE || ended && size > 0 {
            let buffer = Buffer::from(std::mem::take(&mut gathered));
            writer.write(buffer).await.map_err(failed)?;
            *position += size as u64;
            size = 0;
        }
        if ended {
            return Ok(());
        }
    }
}

/// A file in the middle of a change. Unless it is recovered, its remains are removed.
struct Torn<'a> {
    files: &'a Files,
    path: &'a str,
    writer: Option<Writer>,
}

// === impl Torn ===

impl<'a> Torn<'a> {
    fn new(files: &'a Files, writer: Writer, path: &'a str) -> Self {
        Self {
            files,
            path,
            writer: Some(writer),
        }
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        self.writer
            .as_mut()
            .ok_or_else(|| Error::other("the file is in use"))
    }

    fn recover(mut self) -> Result<Writer> {
        self.writer
            .take()
            .ok_or_else(|| Error::other("the file is in use"))
    }
}

impl Drop for Torn<'_> {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let operator = self.files.operator.clone();
        let path = self.path.to_owned();
        let removal = async move {
            // Only some services can abort; the others keep nothing, or a plain file.
            let _ = writer.abort().await;
            drop(writer);
            if operator.info().scheme() == "fs"
                && let Ok(metadata) = operator.stat(&path).await
                && metadata.is_file()
            {
                let _ = operator.delete(&path).await;
            }
        };
        self.files.tasks.spawn_on(removal, &runtime);
    }
}

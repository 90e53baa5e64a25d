//! An open serial port of any kind: a byte stream, and a handle that controls and closes it from elsewhere.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a port.
///
/// `poll_shutdown` must only flush unless the port has an end of stream of its own.
pub trait PortStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PortStream for T {}

/// The lines of a port beside its data.
#[async_trait]
pub trait PortControl: Send + Sync {
    /// Asserts (`true`) or releases Data Terminal Ready.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when the port has no such line, else why the line could not be set.
    async fn set_dtr(&self, on: bool) -> io::Result<()>;

    /// Asserts (`true`) or releases Request To Send.
    ///
    /// # Errors
    /// As [`PortControl::set_dtr`].
    async fn set_rts(&self, on: bool) -> io::Result<()>;

    /// Holds the transmit line in its break state for `duration`. Dropping the future ends the break as well.
    ///
    /// # Errors
    /// As [`PortControl::set_dtr`].
    async fn send_break(&self, duration: Duration) -> io::Result<()>;
}

/// An open port. Dropping it closes it.
///
/// Shutting the writing side down only flushes, except for `loop://` where the reader then sees the end: a serial line
/// has no end of stream, and the other direction has to go on after the end of an input.
pub struct Port {
    handle: PortHandle,
    warnings: Vec<String>,
}

/// Controls and closes a [`Port`] from elsewhere. Cheap to clone; does not keep the port open.
#[derive(Clone)]
pub struct PortHandle {
    gate: Arc<Mutex<Gate>>,
    name: Arc<str>,
}

/// What closing takes away.
struct Gate {
    open: Option<Parts>,
    /// Tasks that wait in the stream: it cannot wake them once it is gone.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Parts {
    stream: Box<dyn PortStream>,
    control: Arc<dyn PortControl>,
}

// === impl Port ===

impl Port {
    /// A port from its parts; `name` is how messages call it.
    pub fn new(
        name: impl Into<Arc<str>>,
        stream: impl PortStream + 'static,
        control: impl PortControl + 'static,
    ) -> Self {
        let parts = Parts {
            stream: Box::new(stream),
            control: Arc::new(control),
        };
        Self {
            handle: PortHandle {
                gate: Arc::new(Mutex::new(Gate {
                    open: Some(parts),
                    reader: None,
                    writer: None,
                })),
                name: name.into(),
            },
            warnings: Vec::new(),
        }
    }

    pub(crate) fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// A handle for somebody else.
    pub fn handle(&self) -> PortHandle {
        self.handle.clone()
    }

    /// What could not be done on opening and is not worth failing for; to be logged by the caller.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The stream and its controls, for a wrapper; `None` when the port was closed.
    pub(crate) fn into_parts(self) -> Option<(Box<dyn PortStream>, Arc<dyn PortControl>)> {
        let parts = self.handle.lock().open.take()?;
        Some((parts.stream, parts.control))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(formatter)
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gate = self.handle.lock();
        let Some(parts) = &mut gate.open else {
            return Poll::Ready(Ok(()));
        };
        let result = Pin::new(&mut parts.stream).poll_read(context, buffer);
        gate.reader = result.is_pending().then(|| context.waker().clone());
        result
    }
}

impl Port {
    /// Polls the writing side, which is an error once the port is closed.
    fn poll_writer<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut dyn PortStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut gate = self.handle.lock();
        let Some(parts) = &mut gate.open else {
            return Poll::Ready(Err(self.handle.closed()));
        };
        let result = poll(Pin::new(parts.stream.as_mut()), context);
        gate.writer = result.is_pending().then(|| context.waker().clone());
        result
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writer(context, |stream, context| stream.poll_write(context, data))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writer(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writer(context, |stream, context| stream.poll_shutdown(context))
    }
}

// === impl PortHandle ===

impl PortHandle {
    /// Closes the port at once: its reader sees the end of the stream, its writer an error. Doing it again is harmless.
    pub fn close(&self) {
        let (parts, reader, writer) = {
            let mut gate = self.lock();
            (gate.open.take(), gate.reader.take(), gate.writer.take())
        };
        drop(parts);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    /// Whether the port is still open on this side.
    pub fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn control(&self) -> io::Result<Arc<dyn PortControl>> {
        let gate = self.lock();
        let parts = gate.open.as_ref().ok_or_else(|| self.closed())?;
        Ok(Arc::clone(&parts.control))
    }

    fn closed(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::BrokenPipe,
            format!("the serial port {} is closed", self.name),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PortControl for PortHandle {
    async fn set_dtr(&self, on: bool) -> io::Result<()> {
        self.control()?.set_dtr(on).await
    }

    async fn set_rts(&self, on: bool) -> io::Result<()> {
        self.control()?.set_rts(on).await
    }

    async fn send_break(&self, duration: Duration) -> io::Result<()> {
        self.control()?.send_break(duration).await
    }
}

#[async_trait]
impl PortControl for Arc<dyn PortControl> {
    async fn set_dtr(&self, on: bool) -> io::Result<()> {
        (**self).set_dtr(on).await
    }

    async fn set_rts(&self, on: bool) -> io::Result<()> {
        (**self).set_rts(on).await
    }

    async fn send_break(&self, duration: Duration) -> io::Result<()> {
        (**self).send_break(duration).await
    }
}

impl fmt::Debug for PortHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Port")
            .field("name", &self.name)
            .field("open", &self.is_open())
            .finish()
    }
}

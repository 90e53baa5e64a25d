//! Serial devices of this computer.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr};
use serial2_tokio::{KeepSettings, SerialPort};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::hardware::near_names;
use crate::port::{Port, PortControl};

/// Longest time an open may take: a driver may wait for output of an earlier user to drain.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a device with `baudrate` bits per second, eight data bits, no parity, one stop bit and no flow control.
///
/// The device is shared with whoever else has it open, as upstream does. A pseudo terminal is as good as any device,
/// except that it has no modem lines.
pub(crate) async fn open(path: &Path, baudrate: u32, disable_hupcl: bool) -> io::Result<Port> {
    let owned = path.to_owned();
    let opening = tokio::task::spawn_blocking(move || {
        let port = open_blocking(&owned, baudrate)?;
        let lines = port.try_clone()?;
        let warning = disable_hupcl
            .then(|| clear_hang_up_on_close(&owned))
            .and_then(Result::err);
        Ok((Descriptor::new(port), Descriptor::new(lines), warning))
    });
    let (port, lines, warning) = timeout(OPEN_TIMEOUT, opening)
        .await
        .map_err(|_| {
            let reason = format!(
                "failed to open the serial device {}: not done within {OPEN_TIMEOUT:?}",
                path.display()
            );
            io::Error::new(io::ErrorKind::TimedOut, reason)
        })?
        .map_err(io::Error::other)?
        .map_err(|error: io::Error| open_error(path, &error))?;
    let name: Arc<str> = path.to_string_lossy().into();
    let lines = TtyLines {
        name: Arc::clone(&name),
        port: lines,
    };
    let warnings = warning.map(|error| {
        format!("failed to clear HUPCL on {name}: {error}; closing it will drop DTR, which resets some boards")
    });
    Ok(Port::new(Arc::clone(&name), Tty { name, port }, lines).with_warnings(warnings))
}

fn open_blocking(path: &Path, baudrate: u32) -> io::Result<SerialPort> {
    let mut port = SerialPort::open(path, KeepSettings)?;
    let mut settings = port.get_configuration()?;
    settings.set_raw();
    let raw = settings.clone();
    settings.set_baud_rate(baudrate)?;
    match port.set_configuration(&settings) {
        // A pseudo terminal has no line whose speed could be wrong.
        Err(_) if is_pseudo_terminal(path) => port.set_configuration(&raw)?,
        result => result?,
    }
    Ok(port)
}

fn is_pseudo_terminal(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path.starts_with("/dev/pts"))
}

/// Clears HUPCL, so that closing the device leaves DTR as it is.
fn clear_hang_up_on_close(path: &Path) -> io::Result<()> {
    // The settings belong to the terminal, not to the descriptor, so a second one serves.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty())?;
    let mut attributes = tcgetattr(&terminal)?;
    attributes.control_modes.remove(ControlModes::HUPCL);
    tcsetattr(&terminal, OptionalActions::Now, &attributes)?;
    if tcgetattr(&terminal)?
        .control_modes
        .contains(ControlModes::HUPCL)
    {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the device's driver keeps it set",
        ));
    }
    Ok(())
}

/// Says what to do about a device that cannot be opened.
fn open_error(path: &Path, error: &io::Error) -> io::Error {
    let not_a_terminal = [Errno::NOTTY, Errno::INVAL].map(|errno| Some(errno.raw_os_error()));
    let advice = match error.kind() {
        io::ErrorKind::NotFound => match near_names(path) {
            names if names.is_empty() => "; this computer has no serial device".to_owned(),
            names => format!("; present are {}", names.join(", ")),
        },
        io::ErrorKind::PermissionDenied => permission_advice(path),
        io::ErrorKind::ResourceBusy => {
            "; another program has it open for itself alone, see `fuser -v` on it".to_owned()
        }
        _ if not_a_terminal.contains(&error.raw_os_error()) => {
            "; it is not a serial device".to_owned()
        }
        _ => String::new(),
    };
    io::Error::new(
        error.kind(),
        format!(
            "failed to open the serial device {}: {error}{advice}",
            path.display()
        ),
    )
}

fn permission_advice(path: &Path) -> String {
    let group = fs::metadata(path)
        .ok()
        .map(|metadata| metadata.gid())
        .map(|id| {
            let groups = fs::read_to_string("/etc/group").unwrap_or_default();
            groups
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|fields| fields.get(2) == Some(&id.to_string().as_str()))
                .map_or_else(|| id.to_string(), |fields| fields[0].to_owned())
        });
    match group {
        Some(group) => format!(
            "; it belongs to the group `{group}`, which the user of the exporter has to be in"
        ),
        None => "; a folder above it is not readable for the user of the exporter".to_owned(),
    }
}

/// An open device that is closed aside: closing one waits for its output to drain, which takes seconds on a slow line.
struct Descriptor(Option<SerialPort>);

impl Descriptor {
    fn new(port: SerialPort) -> Self {
        Self(Some(port))
    }

    fn get(&self) -> io::Result<&SerialPort> {
        self.0
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let (Some(port), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(port)));
        }
    }
}

/// The data of a device.
struct Tty {
    name: Arc<str>,
    port: Descriptor,
}

impl Tty {
    fn gone(&self, reason: &dyn fmt::Display) -> io::Error {
        io::Error::new(
            io::ErrorKind::NotConnected,
            format!("the serial device {} is gone ({reason})", self.name),
        )
    }

    /// The kernel's "input/output error" means that the device was unplugged, or the other side of a pty closed.
    fn explain(&self, error: io::Error) -> io::Error {
        if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
            return self.gone(&"it was unplugged, or the other side closed it");
        }
        io::Error::new(
            error.kind(),
            format!("serial device {}: {error}", self.name),
        )
    }

    fn port(&mut self) -> io::Result<Pin<&mut SerialPort>> {
        self.port
            .0
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Tty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = ready!(self.port()?.poll_read(context, buffer));
        Poll::Ready(match result {
            Ok(()) if buffer.filled().len() == before => Err(self.gone(&"it hung up")),
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error)),
        })
    }
}

impl AsyncWrite for Tty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.port()?.poll_write(context, data));
        Poll::Ready(result.map_err(|error| self.explain(error)))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: a serial line has no end of stream.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The lines of a device.
struct TtyLines {
    name: Arc<str>,
    port: Descriptor,
}

impl TtyLines {
    fn explain(&self, line: &str, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            if [Errno::NOTTY, Errno::INVAL]
                .map(|errno| Some(errno.raw_os_error()))
                .contains(&error.raw_os_error())
            {
                let text = format!(
                    "the serial device {} has no {line} line ({error})",
                    self.name
                );
                return io::Error::new(io::ErrorKind::Unsupported, text);
            }
            io::Error::new(
                error.kind(),
                format!(
                    "failed to set {line} of the serial device {}: {error}",
                    self.name
                ),
            )
        })
    }
}

#[async_trait]
impl PortControl for TtyLines {
    async fn set_dtr(&self, on: bool) -> io::Result<()> {
        self.explain("DTR", self.port.get()?.set_dtr(on))
    }

    async fn set_rts(&self, on: bool) -> io::Result<()> {
        self.explain("RTS", self.port.get()?.set_rts(on))
    }

    async fn send_break(&self, duration: Duration) -> io::Result<()> {
        let port = self.port.get()?;
        self.explain("break", port.set_break(true))?;
        let end = BreakEnd(port);
        tokio::time::sleep(duration).await;
        drop(end);
        Ok(())
    }
}

/// Ends a break, even one whose future was dropped.
struct BreakEnd<'a>(&'a SerialPort);

impl Drop for BreakEnd<'_> {
    fn drop(&mut self) {
        // The device may be gone, and then so is the break.
        let _ = self.0.set_break(false);
    }
}

//! The client: connects, agrees on the port's settings, and splits into a stream and its controls.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection::{Connection, Shared};
use super::negotiation::Agreement;
use super::protocol::{Command, ControlValue, ModemState};
use super::session::Session;
use crate::url::Rfc2217Url;

/// SET-PARITY: none.
const PARITY_NONE: u8 = 1;
/// SET-STOPSIZE: one stop bit.
const STOP_SIZE_ONE: u8 = 1;
/// PURGE-DATA: both directions.
const PURGE_BOTH: u8 = 3;

/// A serial port behind an RFC 2217 server, as a byte stream.
///
/// Nothing runs in the background: reading and writing drive the connection. A writer that stops without
/// flushing leaves its last bytes to the next read, write or control.
#[derive(Debug)]
pub struct Rfc2217Client {
    shared: Shared<TcpStream>,
    control: Rfc2217Control,
}

/// Controls of a connection: modem lines, break, end. Cheap to clone; outlives the stream harmlessly.
#[derive(Debug, Clone)]
pub struct Rfc2217Control {
    shared: Shared<TcpStream>,
    settings: Arc<Settings>,
    /// One request at a time: the protocol's answers carry no number.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Settings {
    peer: String,
    step_timeout: Duration,
    ignore_set_control: bool,
    poll_modem: bool,
}

// === impl Rfc2217Client ===

impl Rfc2217Client {
    /// Connects and sets the port to `baudrate` bits per second, eight data bits, no parity, one stop bit and no flow
    /// control, with DTR and RTS asserted and both buffers empty, as opening a local port does.
    ///
    /// # Errors
    /// When the server cannot be reached, is not an RFC 2217 server, declines a setting, or does not answer a step
    /// within the time of the URL. The message names the server and the step.
    pub async fn connect(url: &Rfc2217Url, baudrate: u32) -> io::Result<Self> {
        let peer = url.address.to_string();
        let settings = Settings {
            step_timeout: url.step_timeout,
            ignore_set_control: url.ignore_set_control,
            poll_modem: url.poll_modem,
            peer: peer.clone(),
        };
        let socket = url.address.connect(url.step_timeout).await?;
        let shared = Shared::new(Connection::new(socket, peer));
        let control = Rfc2217Control {
            shared: shared.clone(),
            settings: Arc::new(settings),
            turn: Arc::default(),
        };
        control.agree().await?;
        control.configure(baudrate).await?;
        Ok(Self { shared, control })
    }

    /// The controls of this connection.
    pub fn control(&self) -> Rfc2217Control {
        self.control.clone()
    }
}

impl Drop for Rfc2217Client {
    fn drop(&mut self) {
        self.shared.lock().close();
    }
}

impl AsyncRead for Rfc2217Client {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.lock().poll_read(context, buffer)
    }
}

impl AsyncWrite for Rfc2217Client {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_flush(context)
    }

    /// Flushes only: a serial line has no end of stream, and servers take a half-closed socket for a lost client.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

// === impl Rfc2217Control ===

impl Rfc2217Control {
    /// Asserts or releases Data Terminal Ready.
    ///
    /// # Errors
    /// When the server declines, does not answer in time, or the connection is gone.
    pub async fn set_dtr(&self, on: bool) -> io::Result<()> {
        self.set_control(if on {
            ControlValue::DtrOn
        } else {
            ControlValue::DtrOff
        })
        .await
    }

    /// Asserts or releases Request To Send.
    ///
    /// # Errors
    /// As [`Rfc2217Control::set_dtr`].
    pub async fn set_rts(&self, on: bool) -> io::Result<()> {
        self.set_control(if on {
            ControlValue::RtsOn
        } else {
            ControlValue::RtsOff
        })
        .await
    }

    /// Holds the line in its break state for `duration`. Dropping the future ends the break as well.
    ///
    /// # Errors
    /// As [`Rfc2217Control::set_dtr`].
    pub async fn send_break(&self, duration: Duration) -> io::Result<()> {
        let end = BreakEnd(self);
        self.set_control(ControlValue::BreakOn).await?;
        tokio::time::sleep(duration).await;
        self.set_control(ControlValue::BreakOff).await?;
        std::mem::forget(end);
        Ok(())
    }

    /// Discards what the server has received and not delivered, and what it has not sent yet.
    ///
    /// # Errors
    /// As [`Rfc2217Control::set_dtr`].
    pub async fn purge(&self) -> io::Result<()> {
        self.request(Command::PurgeData, &[PURGE_BOTH]).await?;
        self.shared.lock().session().discard_received();
        Ok(())
    }

    /// The server's modem lines: as last notified, or asked for now if the URL says `poll_modem`.
    /// `None` when the server has never notified any.
    ///
    /// # Errors
    /// With `poll_modem`, as [`Rfc2217Control::set_dtr`].
    pub async fn modem_state(&self) -> io::Result<Option<ModemState>> {
        if self.settings.poll_modem {
            self.request(Command::NotifyModemState, &[]).await?;
        }
        Ok(self.shared.lock().session().modem_state().0)
    }

    /// Ends the connection at once: a reader sees the end of the stream, a writer an error. Doing it again is harmless.
    pub fn close(&self) {
        self.shared.lock().close();
    }

    /// Waits until the server has agreed that the port may be controlled.
    async fn agree(&self) -> io::Result<()> {
        let agreement = self
            .wait("agree to the COM-PORT option", |session| {
                match session.com_port_agreement() {
                    Agreement::Asked | Agreement::Off => None,
                    settled => Some(settled),
                }
            })
            .await?;
        if agreement == Agreement::On {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{peer} is a telnet server that declines the control of serial ports (RFC 2217); enable it there, or use \
                 socket://{peer} for the bytes alone",
                peer = self.settings.peer
            ),
        ))
    }

    async fn configure(&self, baudrate: u32) -> io::Result<()> {
        self.set(Command::SetBaudRate, &baudrate.to_be_bytes())
            .await?;
        self.set(Command::SetDataSize, &[8]).await?;
        self.set(Command::SetParity, &[PARITY_NONE]).await?;
        self.set(Command::SetStopSize, &[STOP_SIZE_ONE]).await?;
        self.set_control(ControlValue::FlowControlNone).await?;
        // Opening a port asserts both lines. Nobody waits for the answers: ser2net gives none when its port has no modem
        // lines (observed on 4.3.11), and a local port opens without them, too. The purge shows that they were read.
        {
            let mut connection = self.shared.lock();
            for value in [ControlValue::DtrOn, ControlValue::RtsOn] {
                connection
                    .session()
                    .queue_command(Command::SetControl, &[value as u8]);
            }
        }
        self.purge().await?;
        let mut connection = self.shared.lock();
        connection
            .session()
            .queue_command(Command::SetModemStateMask, &[0xff]);
        connection.send_now();
        Ok(())
    }

    /// Sends a setting and checks that the server took it.
    async fn set(&self, command: Command, value: &[u8]) -> io::Result<()> {
        let answer = self.request(command, value).await?;
        if answer == value {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the RFC 2217 server {} declined {command} {}: it uses {}",
                self.settings.peer,
                show(value),
                show(&answer)
            ),
        ))
    }

    async fn set_control(&self, value: ControlValue) -> io::Result<()> {
        if self.settings.ignore_set_control {
            let mut connection = self.shared.lock();
            connection
                .session()
                .queue_command(Command::SetControl, &[value as u8]);
            connection.send_now();
            return Ok(());
        }
        match value {
            // ser2net answers everything about the break with "on" (observed on 4.3.11), so an answer has to do.
            ControlValue::BreakOn | ControlValue::BreakOff => self
                .request(Command::SetControl, &[value as u8])
                .await
                .map(drop),
            _ => self.set(Command::SetControl, &[value as u8]).await,
        }
    }

    /// Sends a command and returns the server's answer to it.
    async fn request(&self, command: Command, value: &[u8]) -> io::Result<Vec<u8>> {
        let _turn = self.turn.lock().await;
        self.shared.lock().session().queue_request(command, value);
        let step = if value.is_empty() {
            command.to_string()
        } else {
            format!("{command} {}", show(value))
        };
        self.wait(&format!("answer {step}"), Session::take_answer)
            .await
    }

    /// Drives the connection until `done` finds what it waits for, at most for the time of one step.
    async fn wait<T>(
        &self,
        step: &str,
        mut done: impl FnMut(&mut Session) -> Option<T>,
    ) -> io::Result<T> {
        let waiting = poll_fn(|context| self.shared.lock().poll_control(context, &mut done));
        if let Ok(result) = timeout(self.settings.step_timeout, waiting).await {
            return result;
        }
        let unread = self.shared.lock().session().unread();
        let reason = match unread {
            0 => String::new(),
            unread => format!(" ({unread} bytes of serial data are waiting to be read)"),
        };
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "the RFC 2217 server {} did not {step} within {:?}{reason}; a slow server needs `?timeout=SECONDS` in the url",
                self.settings.peer, self.settings.step_timeout
            ),
        ))
    }
}

/// Ends a break whose future was dropped.
struct BreakEnd<'a>(&'a Rfc2217Control);

impl Drop for BreakEnd<'_> {
    fn drop(&mut self) {
        let mut connection = self.0.shared.lock();
        connection
            .session()
            .queue_command(Command::SetControl, &[ControlValue::BreakOff as u8]);
        connection.send_now();
    }
}

/// A setting's value for a message: the protocol's numbers are big endian.
fn show(value: &[u8]) -> String {
    match value.len() {
        1..=8 => value
            .iter()
            .fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
            .to_string(),
        _ => format!("{value:?}"),
    }
}

//! Opens the port a URL names: the hardware side of the serial driver.
//!
//! Everything above this module sees one [`Port`], whatever is behind it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::hardware::{near_names, serial_devices};
use crate::loopback::{Loopback, LoopbackLines};
use crate::port::{Port, PortControl};
use crate::rfc2217::{Rfc2217Client, Rfc2217Control};
use crate::spy::Spy;
use crate::tty;
use crate::url::{Address, HardwareGrepUrl, PortUrl};

/// How long a `socket://` server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to open a port.
#[derive(Debug, Clone, PartialEq)]
pub struct PortSettings {
    /// Where the port is.
    pub url: PortUrl,
    /// Bits per second. Means nothing for `loop://` and `socket://`.
    pub baudrate: u32,
    /// Whether closing a local device shall leave DTR as it is, which keeps some boards from being reset. Where this
    /// is impossible the port opens with a warning.
    pub disable_hupcl: bool,
}

impl PortSettings {
    /// A port at the usual 115200 bits per second.
    pub fn new(url: PortUrl) -> Self {
        Self {
            url,
            baudrate: 115_200,
            disable_hupcl: false,
        }
    }
}

/// Opens a port with eight data bits, no parity, one stop bit and no flow control.
///
/// Must be called within a runtime with I/O and time enabled.
///
/// # Errors
/// When the device is missing, unreadable, busy or no serial device, or the server cannot be reached or declines a
/// setting; the message names the port, the reason and what to do. Every wait has a deadline of seconds.
pub async fn open(settings: &PortSettings) -> io::Result<Port> {
    let PortUrl::Spy(spy) = &settings.url else {
        return open_unwatched(&settings.url, settings).await;
    };
    let port = open_unwatched(&spy.inner, settings).await?;
    let warnings = port.warnings().to_vec();
    let (stream, control) = port.into_parts().ok_or(io::ErrorKind::NotConnected)?;
    let stream = Spy::new(stream, spy.file.as_deref())?;
    Ok(Port::new(settings.url.to_string(), stream, control).with_warnings(warnings))
}

/// Opens a port and closes it again, to find out early whether that works. `loop://` always does.
///
/// # Errors
/// As [`open`].
pub async fn check_present(settings: &PortSettings) -> io::Result<()> {
    // The log of a spy is for traffic, and opening it here would empty it.
    let url = match &settings.url {
        PortUrl::Spy(spy) => &*spy.inner,
        url => url,
    };
    open_unwatched(url, settings).await.map(drop)
}

async fn open_unwatched(url: &PortUrl, settings: &PortSettings) -> io::Result<Port> {
    if settings.baudrate == 0 {
        let reason = format!(
            "failed to open the serial port {url}: baudrate 0 means to hang up, use 115200 or so"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    match url {
        PortUrl::Device(path) => tty::open(path, settings.baudrate, settings.disable_hupcl).await,
        PortUrl::Loopback => Ok(Port::new("loop://", Loopback::new(), LoopbackLines)),
        PortUrl::Socket(address) => {
            let socket = address.connect(CONNECT_TIMEOUT).await?;
            let lines = SocketLines {
                address: address.clone(),
            };
            Ok(Port::new(url.to_string(), SocketStream(socket), lines))
        }
        PortUrl::Rfc2217(server) => {
            let client = Rfc2217Client::connect(server, settings.baudrate).await?;
            let control = client.control();
            let warning = settings
                .disable_hupcl
                .then(|| format!("disable_hupcl has no effect on {url}: its server decides what closing does to DTR"));
            Ok(Port::new(url.to_string(), client, control).with_warnings(warning))
        }
        PortUrl::HardwareGrep(expression) => open_match(expression, settings).await,
        PortUrl::Spy(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "spy:// inside spy:// adds nothing",
        )),
    }
}

/// Opens the device that a `hwgrep://` means.
async fn open_match(expression: &HardwareGrepUrl, settings: &PortSettings) -> io::Result<Port> {
    let devices = tokio::task::spawn_blocking(serial_devices)
        .await
        .map_err(io::Error::other)?;
    let mut number = 0;
    for device in devices
        .into_iter()
        .filter(|device| device.matches(&expression.pattern))
    {
        if expression.skip_busy {
            match tty::open(&device.path, settings.baudrate, false).await {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => continue,
                _ => {}
            }
        }
        number += 1;
        if number == expression.number {
            return tty::open(&device.path, settings.baudrate, settings.disable_hupcl).await;
        }
    }
    let present = match near_names("/dev/ttyUSB0".as_ref()) {
        names if names.is_empty() => "this computer has no serial device".to_owned(),
        names => format!("present are {}", names.join(", ")),
    };
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "hwgrep://{}: {number} serial devices match, number {} was asked for; {present}",
            expression.pattern, expression.number
        ),
    ))
}

/// The data of a `socket://`.
struct SocketStream(TcpStream);

impl AsyncRead for SocketStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    /// Flushes only: serial servers take a half-closed socket for a lost client.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// A socket carries bytes and nothing else.
struct SocketLines {
    address: Address,
}

impl SocketLines {
    fn unsupported(&self, line: &str) -> io::Result<()> {
        let address = &self.address;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "socket://{address} cannot control {line}; if the server speaks RFC 2217, use rfc2217://{address}"
            ),
        ))
    }
}

#[async_trait]
impl PortControl for SocketLines {
    async fn set_dtr(&self, _on: bool) -> io::Result<()> {
        self.unsupported("DTR")
    }

    async fn set_rts(&self, _on: bool) -> io::Result<()> {
        self.unsupported("RTS")
    }

    async fn send_break(&self, _duration: Duration) -> io::Result<()> {
        self.unsupported("break")
    }
}

#[async_trait]
impl PortControl for Rfc2217Control {
    async fn set_dtr(&self, on: bool) -> io::Result<()> {
        Self::set_dtr(self, on).await
    }

    async fn set_rts(&self, on: bool) -> io::Result<()> {
        Self::set_rts(self, on).await
    }

    async fn send_break(&self, duration: Duration) -> io::Result<()> {
        Self::send_break(self, duration).await
    }
}

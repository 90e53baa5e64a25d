//! The driver: a serial port behind a console hub (facts: drivers 1.4).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use jmp_driver::console::{ConsoleHub, ConsoleOptions, Start};
use jmp_driver::{ByteStream, Driver, Error, Interface, Logger, OpenContext, Result, UnknownKeys};
use jmp_interfaces::serial::{
    Serial, SerialControl, SerialReplay, serial_control_interface, serial_interface,
    serial_replay_interface,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::device::{self, PortSettings};
use crate::pace::{Pace, Paced};
use crate::port::{Port, PortControl, PortHandle};
use crate::url::PortUrl;

/// Where the port is and how it is driven.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PySerialConfig {
    /// Device path or URL as pyserial writes it: `/dev/ttyUSB0`, `loop://`, `socket://HOST:PORT`,
    /// `rfc2217://HOST:PORT`, `spy://DEVICE`, `alt://DEVICE`, `hwgrep://REGEX`.
    pub url: String,
    /// Bits per second; always eight data bits, no parity, one stop bit, no flow control.
    #[serde(default = "default_baudrate")]
    pub baudrate: u32,
    /// Open the port when the exporter starts, and refuse to start if that fails.
    #[serde(default = "default_check_present")]
    pub check_present: bool,
    /// Characters sent per second at most, for devices that lose input when it comes too fast; 0
    /// for no limit.
    #[serde(default)]
    pub cps: Option<f64>,
    /// Leave DTR as it is when the port is closed, which keeps some boards from being reset.
    #[serde(default)]
    pub disable_hupcl: bool,
}

fn default_baudrate() -> u32 {
    115_200
}

fn default_check_present() -> bool {
    true
}

/// A serial port.
///
/// A real port is opened by the first stream and then shared by all through a [`ConsoleHub`]; it
/// stays open until `close` or the end of the session. On `loop://` each stream has an echo of its
/// own.
#[derive(Debug)]
pub struct PySerial {
    opener: Arc<PortOpener>,
    /// `None` for `loop://`.
    hub: Option<ConsoleHub>,
    log: Logger,
}

/// Opens the port and remembers how to control it.
#[derive(Debug)]
struct PortOpener {
    settings: PortSettings,
    pace: Option<Pace>,
    /// Ports opened and perhaps closed again: one of a hub, any number of loops.
    handles: Mutex<Vec<PortHandle>>,
    log: Logger,
}

// === impl PortOpener ===

impl PortOpener {
    fn handles(&self) -> MutexGuard<'_, Vec<PortHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> io::Result<ByteStream> {
        let port = device::open(&self.settings).await?;
        for warning in port.warnings() {
            self.log.warning(warning.clone());
        }
        let mut handles = self.handles();
        handles.retain(PortHandle::is_open);
        handles.push(port.handle());
        drop(handles);
        Ok(self.stream(port))
    }

    fn stream(&self, port: Port) -> ByteStream {
        match self.pace {
            Some(pace) => ByteStream::from_io(Paced::new(port, pace)),
            None => ByteStream::from_io(port),
        }
    }

    fn close_all(&self) {
        self.handles().drain(..).for_each(|handle| handle.close());
    }

    fn current(&self) -> Option<PortHandle> {
        self.handles()
            .iter()
            .rev()
            .find(|handle| handle.is_open())
            .cloned()
    }
}

// === impl PySerial ===

impl PySerial {
    /// Checks the configuration, and the port if that is configured.
    ///
    /// # Errors
    ///
    /// CONFIGURATION for a URL or pace that makes no sense; what opening the port says.
    pub async fn new(config: PySerialConfig, log: Logger) -> Result<Self> {
        let url: PortUrl = config
            .url
            .parse()
            .map_err(|error: crate::url::PortUrlError| Error::configuration(error.to_string()))?;
        let cps = config.cps.unwrap_or(0.0);
        let pace = Pace::from_characters_per_second(cps)
            .map_err(|error| Error::configuration(error.to_string()))?;
        let settings = PortSettings {
            url,
            baudrate: config.baudrate,
            disable_hupcl: config.disable_hupcl,
        };
        let is_loop = matches!(settings.url, PortUrl::Loopback);
        if config.check_present && !is_loop {
            device::check_present(&settings).await.map_err(|error| {
                Error::from(error).context("check_present, which `check_present: false` turns off")
            })?;
        }
        let opener = Arc::new(PortOpener {
            settings,
            pace,
            handles: Mutex::new(Vec::new()),
            log: log.clone(),
        });
        let hub = (!is_loop).then(|| hub(&opener, &config.url));
        Ok(Self { opener, hub, log })
    }

    /// The hub behind the streams, for parents that record or suspend it; `None` for `loop://`.
    pub fn hub(&self) -> Option<&ConsoleHub> {
        self.hub.as_ref()
    }

    async fn stream(&self, start: Start) -> Result<ByteStream> {
        let settings = &self.opener.settings;
        let (url, baudrate) = (&settings.url, settings.baudrate);
        let pace = self.opener.pace.map_or_else(String::new, |pace| {
            format!(", cps: {}", 1.0 / pace.interval().as_secs_f64())
        });
        self.log
            .info(format!("Connecting to {url}, baudrate: {baudrate}{pace}"));
        match &self.hub {
            Some(hub) => hub.attach(start).await,
            None => Ok(self.opener.open().await?),
        }
    }

    /// The controls of the port, which is opened if need be.
    async fn control(&self, hub: &ConsoleHub) -> Result<PortHandle> {
        hub.open().await?;
        self.opener.current().ok_or_else(|| {
            let url = &self.opener.settings.url;
            Error::device(format!("the serial port {url} is in use by a flasher"))
        })
    }
}

fn hub(opener: &Arc<PortOpener>, url: &str) -> ConsoleHub {
    let options = ConsoleOptions::new(format!("the serial port {url}")).log(opener.log.clone());
    let opener = Arc::clone(opener);
    ConsoleHub::new(options, move || {
        let opener = Arc::clone(&opener);
        async move { Ok(without_end(opener.open().await?, &opener.settings.url)) }
    })
}

/// A port does not end unless this side closes it, so its end is a loss.
fn without_end(stream: ByteStream, url: &PortUrl) -> ByteStream {
    let text = format!("{url}: the device was unplugged or its other side closed");
    let loss = async { Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)) };
    ByteStream {
        reader: Box::pin(stream.reader.chain(futures::stream::once(loss))),
        writer: stream.writer,
    }
}

impl Serial for PySerial {
    async fn connect(&self) -> Result<ByteStream> {
        self.stream(Start::Now).await
    }
}

impl SerialReplay for PySerial {
    async fn replay(&self) -> Result<ByteStream> {
        self.stream(Start::Replay).await
    }
}

impl SerialControl for PySerial {
    async fn close_port(&self) -> Result<()> {
        if let Some(hub) = &self.hub {
            hub.close().await;
        }
        self.opener.close_all();
        Ok(())
    }

    async fn set_dtr(&self, active: bool) -> Result<()> {
        match &self.hub {
            Some(hub) => Ok(self.control(hub).await?.set_dtr(active).await?),
            // Nobody is there to see the lines of a loop.
            None => Ok(()),
        }
    }

    async fn set_rts(&self, active: bool) -> Result<()> {
        match &self.hub {
            Some(hub) => Ok(self.control(hub).await?.set_rts(active).await?),
            None => Ok(()),
        }
    }
}

impl Driver for PySerial {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_pyserial.driver.PySerial"];
    const SUMMARY: &'static str = "A serial port: local device, TCP, RFC 2217 or loop";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = PySerialConfig;

    async fn open(config: PySerialConfig, context: OpenContext) -> Result<Self> {
        Self::new(config, context.log).await
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![
            serial_interface(),
            serial_control_interface(),
            serial_replay_interface(),
        ]
    }

    async fn close(&self) {
        if let Some(hub) = &self.hub {
            hub.shut_down().await;
        }
        self.opener.close_all();
    }
}

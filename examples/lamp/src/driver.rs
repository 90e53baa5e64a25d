//! The drivers: one on a Linux LED, one without hardware.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jmp_driver::{
    ByteReader, CallContext, Driver, Error, Interface, OpenContext, Resource, Result,
};
use tokio::sync::watch;

use crate::config::{LedConfig, MockLampConfig};
use crate::device::{Device, FakeLamp, KernelLed};
use crate::interface::{Lamp, lamp_interface};

/// Patterns are read into memory; this many bytes are enough for hours.
const PATTERN_LIMIT: usize = 64 * 1024;

/// What both drivers are made of: the device and the brightness everybody may watch.
struct Dimmer {
    device: Arc<Mutex<dyn Device>>,
    brightness: watch::Sender<u8>,
    initial: u8,
}

// === impl Dimmer ===

impl Dimmer {
    fn new(device: impl Device, initial: u8) -> Result<Self> {
        check(initial).map_err(|error| error.context("initial"))?;
        Ok(Self {
            device: Arc::new(Mutex::new(device)),
            brightness: watch::Sender::new(initial),
            initial,
        })
    }

    /// The device may block, so it is called on a thread that may.
    async fn set(&self, percent: u8) -> Result<()> {
        check(percent)?;
        let device = Arc::clone(&self.device);
        tokio::task::spawn_blocking(move || {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            device.write(percent)
        })
        .await
        .map_err(|error| Error::other("the device thread ended").with_source(error))?
        .map_err(|error| Error::device(format!("setting {percent} %: {error}")))?;
        self.brightness.send_replace(percent);
        Ok(())
    }

    /// Ends with the caller: dropping the stream is all it takes.
    fn watch(&self) -> impl Stream<Item = Result<u8>> + Send + use<> {
        let mut brightness = self.brightness.subscribe();
        async_stream::stream! {
            loop {
                let percent = *brightness.borrow_and_update();
                yield Ok(percent);
                if brightness.changed().await.is_err() {
                    break;
                }
            }
        }
    }

    async fn play(&self, pattern: Resource, times: u32) -> Result<u32> {
        let steps = parse(&read(pattern.into_reader().await?).await?)?;
        let mut played = 0;
        for _ in 0..times {
            for (percent, wait) in &steps {
                self.set(*percent).await?;
                tokio::time::sleep(*wait).await;
                played += 1;
            }
        }
        Ok(played)
    }
}

fn check(percent: u8) -> Result<()> {
    if percent > 100 {
        return Err(Error::invalid_argument(format!(
            "{percent} % is more than the lamp has; use 0 to 100"
        )));
    }
    Ok(())
}

async fn read(mut reader: ByteReader) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > PATTERN_LIMIT {
            return Err(Error::invalid_argument(format!(
                "the pattern is longer than {PATTERN_LIMIT} bytes"
            )));
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid_argument("the pattern is no UTF-8 text"))
}

fn parse(text: &str) -> Result<Vec<(u8, Duration)>> {
    let lines = text.lines().enumerate().map(|(index, line)| {
        let mut words = line.split_whitespace();
        let percent = words.next().and_then(|word| word.parse().ok());
        let wait = words.next().and_then(|word| word.parse().ok());
        let (Some(percent), Some(wait), None) = (percent, wait, words.next()) else {
            let number = index + 1;
            return Err(Error::invalid_argument(format!(
                "line {number} of the pattern is not `PERCENT MILLISECONDS`: `{line}`"
            )));
        };
        check(percent)?;
        Ok((percent, Duration::from_millis(wait)))
    });
    lines.collect()
}

/// A lamp on an LED of the Linux kernel.
pub struct Led(Dimmer);

impl Lamp for Led {
    async fn set(&self, percent: u8) -> Result<()> {
        self.0.set(percent).await
    }

    async fn get(&self) -> Result<u8> {
        Ok(*self.0.brightness.borrow())
    }

    fn watch(&self) -> impl Stream<Item = Result<u8>> + Send {
        self.0.watch()
    }

    async fn play(&self, pattern: Resource, times: u32) -> Result<u32> {
        self.0.play(pattern, times).await
    }
}

impl Driver for Led {
    const TYPES: &'static [&'static str] = &["example_lamp.driver.Led"];
    const SUMMARY: &'static str = "Lamp on an LED of the Linux kernel";
    type Config = LedConfig;

    async fn open(config: LedConfig, context: OpenContext) -> Result<Self> {
        let directory = config.directory;
        let shown = directory.display().to_string();
        let led = KernelLed::open(directory).map_err(|error| {
            Error::from(error).context(format!("opening {shown}; see `ls /sys/class/leds`"))
        })?;
        context.log.info(format!("lamp on {shown}"));
        Dimmer::new(led, config.initial).map(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![lamp_interface()]
    }

    async fn reset(&self) -> Result<()> {
        self.0.set(self.0.initial).await
    }
}

/// A lamp without hardware, for tests and for people without one.
pub struct MockLamp {
    dimmer: Dimmer,
    log: jmp_driver::Logger,
}

impl Lamp for MockLamp {
    async fn set(&self, percent: u8) -> Result<()> {
        let caller = CallContext::current().connection();
        self.dimmer.set(percent).await?;
        self.log.info(format!("{percent} % (connection {caller})"));
        Ok(())
    }

    async fn get(&self) -> Result<u8> {
        Ok(*self.dimmer.brightness.borrow())
    }

    fn watch(&self) -> impl Stream<Item = Result<u8>> + Send {
        self.dimmer.watch()
    }

    async fn play(&self, pattern: Resource, times: u32) -> Result<u32> {
        self.dimmer.play(pattern, times).await
    }
}

impl Driver for MockLamp {
    const TYPES: &'static [&'static str] = &["example_lamp.driver.MockLamp"];
    const SUMMARY: &'static str = "Lamp without hardware";
    type Config = MockLampConfig;

    async fn open(config: MockLampConfig, context: OpenContext) -> Result<Self> {
        let device = FakeLamp {
            fails_above: config.fails_above,
        };
        Ok(Self {
            dimmer: Dimmer::new(device, 0)?,
            log: context.log,
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![lamp_interface()]
    }
}

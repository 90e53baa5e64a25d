//! The hardware seam: the only file that knows how a lamp is wired.

use std::io;
use std::path::PathBuf;

/// Something that shines. Calls may block.
pub trait Device: Send + 'static {
    /// Sets the brightness in percent, 0 to 100.
    ///
    /// # Errors
    ///
    /// If the hardware does not take it.
    fn write(&mut self, percent: u8) -> io::Result<()>;
}

/// An LED of the Linux kernel, `/sys/class/leds/NAME`.
#[derive(Debug)]
pub struct KernelLed {
    directory: PathBuf,
    maximum: u64,
}

// === impl KernelLed ===

impl KernelLed {
    /// Looks the LED up.
    ///
    /// # Errors
    ///
    /// If there is none at that place.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        let text = std::fs::read_to_string(directory.join("max_brightness"))?;
        let maximum = text.trim().parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "max_brightness is no number")
        })?;
        Ok(Self { directory, maximum })
    }
}

impl Device for KernelLed {
    fn write(&mut self, percent: u8) -> io::Result<()> {
        let value = self.maximum * u64::from(percent) / 100;
        std::fs::write(self.directory.join("brightness"), value.to_string())
    }
}

/// A lamp without hardware that can be told to break.
#[derive(Debug, Default)]
pub struct FakeLamp {
    /// Answer every write above this percentage with an error, as a weak supply would.
    pub fails_above: Option<u8>,
}

impl Device for FakeLamp {
    fn write(&mut self, percent: u8) -> io::Result<()> {
        match self.fails_above {
            Some(limit) if percent > limit => Err(io::Error::other("the supply broke down")),
            _ => Ok(()),
        }
    }
}

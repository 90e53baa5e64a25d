//! Switching and measuring the supply of a device (facts: drivers 1.1).

#[cfg(feature = "behaviour")]
pub mod behaviour;

use std::time::Duration;

use futures::Stream;
use jmp_driver::{Result, interface};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PowerReading {
    /// In volts.
    pub voltage: f64,
    /// In amperes.
    pub current: f64,
}

impl PowerReading {
    /// Voltage times current, in volt-amperes.
    pub fn apparent_power(&self) -> f64 {
        self.voltage * self.current
    }
}

/// Power control of a device.
#[interface(client = "jumpstarter_driver_power.client.PowerClient")]
pub trait Power: Send + Sync + 'static {
    /// Switch the device on.
    async fn on(&self) -> Result<()>;

    /// Switch the device off.
    async fn off(&self) -> Result<()>;

    /// Measure until the caller stops listening or the driver has no more.
    fn read(&self) -> impl Stream<Item = Result<PowerReading>> + Send;
}

/// Power control of a virtual device, which can be removed altogether.
#[interface(client = "jumpstarter_driver_power.client.VirtualPowerClient")]
pub trait VirtualPower: Send + Sync + 'static {
    /// Switch the device on.
    async fn on(&self) -> Result<()>;

    /// Switch the device off, and with `destroy` remove it.
    async fn off(&self, #[default(false)] destroy: bool) -> Result<()>;

    /// Measure until the caller stops listening or the driver has no more.
    fn read(&self) -> impl Stream<Item = Result<PowerReading>> + Send;
}

// === impl PowerClient ===

impl PowerClient {
    /// Switches off, waits and switches on again.
    ///
    /// # Errors
    ///
    /// Those of either step; after a failed `off` the device is not switched on.
    pub async fn cycle(&self, wait: Duration) -> Result<()> {
        self.off().await?;
        tokio::time::sleep(wait).await;
        self.on().await
    }

    /// Brings a device back that does not react, if its driver can.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED or method not found for drivers that cannot.
    pub async fn rescue(&self) -> Result<()> {
        self.handle().call("rescue", ()).await
    }
}

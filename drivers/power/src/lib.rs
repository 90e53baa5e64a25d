//! Power drivers without hardware (facts: drivers 1.1).
//!
//! The interface is [`jmp_interfaces::power`]; this crate holds the mocks.

pub mod commands;

use futures::Stream;
use jmp_driver::command::ClientRegistry;
use jmp_driver::{Driver, Interface, Logger, OpenContext, Registry, Result, UnknownKeys};
use jmp_interfaces::power::{Power, PowerReading, power_interface};
use schemars::JsonSchema;
use serde::Deserialize;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<MockPower>().add::<SyncMockPower>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::POWER).add(commands::VIRTUAL_POWER);
}

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MockPowerConfig {}

/// Logs what it is told and measures nothing, then 5 V and 2 A.
#[derive(Debug)]
pub struct MockPower {
    log: Logger,
}

/// [`MockPower`] under a second name: upstream has an asynchronous and a synchronous one that
/// cannot be told apart on the wire.
#[derive(Debug)]
pub struct SyncMockPower(MockPower);

// === impl MockPower ===

impl Power for MockPower {
    async fn on(&self) -> Result<()> {
        self.log.info("power on");
        Ok(())
    }

    async fn off(&self) -> Result<()> {
        self.log.info("power off");
        Ok(())
    }

    fn read(&self) -> impl Stream<Item = Result<PowerReading>> + Send {
        let reading = |voltage, current| Ok(PowerReading { voltage, current });
        futures::stream::iter([reading(0.0, 0.0), reading(5.0, 2.0)])
    }
}

impl Driver for MockPower {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_power.driver.MockPower"];
    const SUMMARY: &'static str = "Power control that only logs";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = MockPowerConfig;

    async fn open(_: MockPowerConfig, context: OpenContext) -> Result<Self> {
        Ok(Self { log: context.log })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![power_interface()]
    }
}

// === impl SyncMockPower ===

impl Power for SyncMockPower {
    async fn on(&self) -> Result<()> {
        self.0.on().await
    }

    async fn off(&self) -> Result<()> {
        self.0.off().await
    }

    fn read(&self) -> impl Stream<Item = Result<PowerReading>> + Send {
        self.0.read()
    }
}

impl Driver for SyncMockPower {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_power.driver.SyncMockPower"];
    const SUMMARY: &'static str = "MockPower under its second name";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = MockPowerConfig;

    async fn open(config: MockPowerConfig, context: OpenContext) -> Result<Self> {
        MockPower::open(config, context).await.map(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![power_interface()]
    }
}

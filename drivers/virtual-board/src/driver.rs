//! The virtual board as a driver: a group of `power`, `serial` and `storage` around one board.

use std::sync::Mutex;
use std::sync::PoisonError;

use futures::Stream;
use jmp_driver::console::{ConsoleHub, ConsoleOptions, Start};
use jmp_driver::{ByteStream, Driver, Error, Interface, OpenContext, Result};
use jmp_interfaces::composite::{Composite, composite_interface};
use jmp_interfaces::power::{Power, PowerReading, power_interface};
use jmp_interfaces::serial::{Serial, SerialReplay, serial_interface, serial_replay_interface};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::actor::{self, BoardHandle, BoardTask};
use crate::board::{Board, BoardConfig};
use crate::storage::{Card, VirtualBoardStorage};

/// A simulated board: `power`, `serial` and `storage` behave as those of one small computer.
///
/// It boots from what is written to its storage; [`crate::board::build_image`] makes something
/// bootable. It is the lab everybody has, and what tests use.
pub struct VirtualBoard {
    card: Card,
    console: ConsoleHub,
    /// Taken out when the session closes.
    task: Mutex<Option<BoardTask>>,
}

/// The supply of a virtual board.
pub struct VirtualBoardPower {
    board: BoardHandle,
}

/// The serial console of a virtual board.
pub struct VirtualBoardSerial {
    console: ConsoleHub,
}

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NoConfig {}

/// The parts of a board cannot be had alone.
pub(crate) fn only_inside_a_board() -> Error {
    let board = VirtualBoard::TYPES[0];
    Error::configuration(format!(
        "this is a part of a virtual board; configure a `{board}`, which has it as a child"
    ))
}

// === impl VirtualBoard ===

impl Composite for VirtualBoard {}

impl Driver for VirtualBoard {
    const TYPES: &'static [&'static str] =
        &["jumpstarter_driver_virtual_board.driver.VirtualBoard"];
    const SUMMARY: &'static str = "A simulated board with power, serial console and storage";
    type Config = BoardConfig;

    async fn open(config: BoardConfig, context: OpenContext) -> Result<Self> {
        let in_file = |error: std::io::Error| {
            Error::from(error).context("creating the file that is the storage of the board")
        };
        // Without a name nothing is left behind, however the exporter ends, and nobody else
        // can open it.
        let file = tempfile::tempfile().map_err(in_file)?;
        let medium = file.try_clone().map_err(in_file)?;
        let board = Board::new(config, Box::new(medium))
            .map_err(|error| Error::configuration(error.to_string()))?;
        let clock = context.clock.clone();
        let (handle, task) = actor::start(board, clock.clone(), context.log.clone());

        let card = Card::new(handle.clone(), file);
        let options = ConsoleOptions::new("the console of the virtual board")
            .log(context.log.clone())
            .clock(clock);
        let line = handle.clone();
        let console = ConsoleHub::new(options, move || {
            let line = line.clone();
            async move { Ok(line.run(|run| run.attach()).await?) }
        });
        context.adopt("power", VirtualBoardPower { board: handle });
        let serial = VirtualBoardSerial {
            console: console.clone(),
        };
        context.adopt("serial", serial);
        context.adopt("storage", VirtualBoardStorage::new(card.clone()));
        Ok(Self {
            card,
            console,
            task: Mutex::new(Some(task)),
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![composite_interface()]
    }

    async fn reset(&self) -> Result<()> {
        self.card.reset().await?;
        // From the start, so that the history has the whole boot.
        self.console.open().await
    }

    async fn close(&self) {
        self.console.shut_down().await;
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.stop().await;
        }
    }
}

// === impl VirtualBoardPower ===

impl Power for VirtualBoardPower {
    async fn on(&self) -> Result<()> {
        self.board.run(|run| run.power(true)).await
    }

    async fn off(&self) -> Result<()> {
        self.board.run(|run| run.power(false)).await
    }

    fn read(&self) -> impl Stream<Item = Result<PowerReading>> + Send {
        futures::stream::once(async move {
            let measured = self.board.run(|run| {
                let now = run.time();
                run.board().measure(now)
            });
            let measurement = measured.await?;
            Ok(PowerReading {
                voltage: to_milli(measurement.volts),
                current: to_milli(measurement.amps),
            })
        })
    }
}

/// A meter shows three decimals.
fn to_milli(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Driver for VirtualBoardPower {
    const TYPES: &'static [&'static str] =
        &["jumpstarter_driver_virtual_board.driver.VirtualBoardPower"];
    const SUMMARY: &'static str = "Supply of a virtual board";
    type Config = NoConfig;

    async fn open(_: NoConfig, _: OpenContext) -> Result<Self> {
        Err(only_inside_a_board())
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![power_interface()]
    }
}

// === impl VirtualBoardSerial ===

impl Serial for VirtualBoardSerial {
    async fn connect(&self) -> Result<ByteStream> {
        self.console.attach(Start::Now).await
    }
}

impl SerialReplay for VirtualBoardSerial {
    async fn replay(&self) -> Result<ByteStream> {
        self.console.attach(Start::Replay).await
    }
}

impl Driver for VirtualBoardSerial {
    const TYPES: &'static [&'static str] =
        &["jumpstarter_driver_virtual_board.driver.VirtualBoardSerial"];
    const SUMMARY: &'static str = "Serial console of a virtual board";
    type Config = NoConfig;

    async fn open(_: NoConfig, _: OpenContext) -> Result<Self> {
        Err(only_inside_a_board())
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![serial_interface(), serial_replay_interface()]
    }
}

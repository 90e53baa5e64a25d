//! `j power …` (facts: drivers 1.1).

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use jmp_driver::Result;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, OutputFormat, ValueKind,
};
use jmp_interfaces::power::{PowerClient, PowerReading, VirtualPowerClient};

/// Client type of [`jmp_interfaces::power::Power`].
pub const POWER: ClientType = ClientType {
    classes: &["jumpstarter_driver_power.client.PowerClient"],
    about: "Generic power",
    commands: power,
};

/// Client type of [`jmp_interfaces::power::VirtualPower`].
pub const VIRTUAL_POWER: ClientType = ClientType {
    classes: &["jumpstarter_driver_power.client.VirtualPowerClient"],
    about: "Generic power",
    commands: virtual_power,
};

fn client(invocation: &Invocation) -> PowerClient {
    PowerClient::new(invocation.device.handle.clone())
}

fn power(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    let off = Command::new("off", "Power off", async |invocation: Invocation| {
        client(&invocation).off().await?;
        done()
    });
    Box::pin(async { Ok(Commands::Group(vec![on(), off, cycle(), read(), rescue()])) })
}

fn virtual_power(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    let off = Command::new("off", "Power off", |invocation: Invocation| async move {
        let client = VirtualPowerClient::new(invocation.device.handle.clone());
        client.off(invocation.given.is_set("destroy")).await?;
        done()
    })
    .argument(Argument::flag("destroy", "Remove the device altogether"))
    .example("off --destroy");
    Box::pin(async { Ok(Commands::Group(vec![on(), off, cycle(), read()])) })
}

/// The documentation shows this word after a switch.
fn done() -> Result<u8> {
    println!("ok");
    Ok(0)
}

fn on() -> Command {
    Command::new("on", "Power on", |invocation: Invocation| async move {
        client(&invocation).on().await?;
        done()
    })
    .example("on")
}

fn rescue() -> Command {
    Command::new(
        "rescue",
        "Bring back a device that does not react",
        |invocation: Invocation| async move {
            client(&invocation).rescue().await?;
            done()
        },
    )
}

fn cycle() -> Command {
    Command::new(
        "cycle",
        "Power cycle",
        |invocation: Invocation| async move {
            let wait: u64 = invocation.given.number("wait")?.unwrap_or(2);
            println!("Power cycling with {wait} seconds wait time...");
            client(&invocation).cycle(Duration::from_secs(wait)).await?;
            done()
        },
    )
    .argument(
        Argument::option("wait", ValueKind::Integer, "Seconds between off and on")
            .short('w')
            .default_value("2"),
    )
    .example("cycle --wait 5")
}

fn read() -> Command {
    Command::new("read", "Read power measurements", read_action)
        .argument(
            Argument::option(
                "count",
                ValueKind::Integer,
                "How often to measure; 0 for ever",
            )
            .short('n')
            .default_value("1"),
        )
        .argument(
            Argument::option(
                "interval",
                ValueKind::Number,
                "Seconds between two measurements",
            )
            .short('i')
            .default_value("1.0"),
        )
        .example("read --count 0 --interval 0.5")
}

/// Shipped clients count passes over the driver's answers, not answers.
async fn read_action(invocation: Invocation) -> Result<u8> {
    let count: u64 = invocation.given.number("count")?.unwrap_or(1);
    let interval: f64 = invocation.given.number("interval")?.unwrap_or(1.0);
    let interval = Duration::try_from_secs_f64(interval)
        .map_err(|_| jmp_driver::Error::invalid_argument("the interval cannot be negative"))?;
    let client = client(&invocation);
    let mut pass = 0;
    loop {
        let mut readings = client.read().await?;
        while let Some(reading) = readings.next().await {
            print(reading?, invocation.output);
        }
        pass += 1;
        if pass == count {
            return Ok(0);
        }
        tokio::time::sleep(interval).await;
    }
}

/// One line for each reading, also as JSON; YAML has a document for each.
fn print(reading: PowerReading, format: OutputFormat) {
    let PowerReading { voltage, current } = reading;
    // A product of two measurements has no more digits than they have.
    let power = (reading.apparent_power() * 1e6).round() / 1e6;
    match format {
        OutputFormat::Json => println!(
            "{{\"voltage\":{},\"current\":{},\"apparent_power\":{}}}",
            number(voltage),
            number(current),
            number(power)
        ),
        OutputFormat::Yaml => println!(
            "---\nvoltage: {}\ncurrent: {}\napparent_power: {}",
            number(voltage),
            number(current),
            number(power)
        ),
        OutputFormat::Text | OutputFormat::Name => {
            println!("voltage={voltage:?} V  current={current:?} A  apparent_power={power:?} VA");
        }
    }
}

/// JSON has no number for a measurement that failed.
fn number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:?}")
    } else {
        "null".to_owned()
    }
}

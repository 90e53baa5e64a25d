//! `j storage …` and `j flasher …` (facts: drivers 1.3.2, 1.3.3).

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, ValueKind,
};
use jmp_driver::{Encoding, Error, Result};
use jmp_interfaces::flasher::FlasherClient;
use jmp_interfaces::progress::bar;
use jmp_interfaces::resource::{Source, Target, TransferOptions};
use jmp_interfaces::storage_mux::{StorageMuxClient, StorageMuxFlasherClient};

/// Client type of [`jmp_interfaces::flasher::Flasher`].
pub const FLASHER: ClientType = ClientType {
    classes: &[
        "jumpstarter_driver_opendal.client.FlasherClient",
        "jumpstarter.client.flasher.FlasherClient",
    ],
    about: "Generic flasher interface",
    commands: flasher,
};

/// Client type of [`jmp_interfaces::storage_mux::StorageMux`].
pub const STORAGE_MUX: ClientType = ClientType {
    classes: &["jumpstarter_driver_opendal.client.StorageMuxClient"],
    about: "Storage operations",
    commands: storage_mux,
};

/// Client type of [`jmp_interfaces::storage_mux::StorageMuxFlasher`].
pub const STORAGE_MUX_FLASHER: ClientType = ClientType {
    classes: &["jumpstarter_driver_opendal.client.StorageMuxFlasherClient"],
    about: "Generic flasher interface",
    commands: storage_mux_flasher,
};

fn flasher(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async { Ok(Commands::Group(vec![flash_partitions(), dump_partition()])) })
}

fn storage_mux(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    let mut commands = positions();
    commands.extend([write_local_file(), read_local_file()]);
    Box::pin(async { Ok(Commands::Group(commands)) })
}

fn storage_mux_flasher(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    let mut commands = vec![flash_storage(), dump_storage()];
    commands.extend(positions());
    commands.extend([write_local_file(), read_local_file()]);
    Box::pin(async { Ok(Commands::Group(commands)) })
}

// === arguments ===

/// An option that says how the local file is compressed.
fn compression() -> Argument {
    let names = Encoding::ALL.map(|encoding| encoding.name().into());
    Argument::option(
        "compression",
        ValueKind::Choice(names.into()),
        "How the local file is compressed; the device gets it decompressed",
    )
}

fn options(invocation: &Invocation, what: &str) -> Result<TransferOptions> {
    let compression = invocation
        .given
        .get("compression")
        .map(|name| {
            name.parse()
                .map_err(|error: jmp_driver::compression::UnknownEncoding| {
                    Error::invalid_argument(error.to_string())
                })
        })
        .transpose()?;
    Ok(TransferOptions {
        compression,
        progress: bar(invocation, what),
    })
}

fn image() -> Argument {
    Argument::positional("file", ValueKind::File, "Local file, or http(s) address")
}

fn storage(invocation: &Invocation) -> StorageMuxClient {
    StorageMuxClient::new(invocation.device.handle.clone())
}

// === positions ===

fn positions() -> Vec<Command> {
    vec![
        Command::new(
            "dut",
            "Connect storage to dut",
            async |invocation: Invocation| {
                storage(&invocation).dut().await?;
                Ok(0)
            },
        ),
        Command::new(
            "host",
            "Connect storage to host",
            async |invocation: Invocation| {
                storage(&invocation).host().await?;
                Ok(0)
            },
        ),
        Command::new(
            "off",
            "Disconnect storage",
            async |invocation: Invocation| {
                storage(&invocation).off().await?;
                Ok(0)
            },
        ),
    ]
}

// === storage multiplexers ===

fn write_local_file() -> Command {
    Command::new(
        "write-local-file",
        "Write a file to the storage, which must be connected to the host",
        |invocation: Invocation| async move {
            let source = Source::parse(invocation.given.required("file")?);
            let options = options(&invocation, "writing")?;
            storage(&invocation).write_from(source, &options).await?;
            Ok(0)
        },
    )
    .argument(image())
    .argument(compression())
    .example("write-local-file image.raw")
}

fn read_local_file() -> Command {
    Command::new(
        "read-local-file",
        "Read the storage, which must be connected to the host, into a file",
        |invocation: Invocation| async move {
            let target = Target::parse(invocation.given.required("file")?);
            let options = options(&invocation, "reading")?;
            storage(&invocation).read_into(target, &options).await?;
            Ok(0)
        },
    )
    .argument(image())
    .argument(compression())
    .example("read-local-file image.raw")
}

fn flash_storage() -> Command {
    Command::new(
        "flash",
        "Write an image to the storage and connect it to the dut",
        |invocation: Invocation| async move {
            let client = StorageMuxFlasherClient::new(invocation.device.handle.clone());
            let source = Source::parse(invocation.given.required("file")?);
            let options = options(&invocation, "flashing")?;
            client.flash_from(source, &options).await?;
            Ok(0)
        },
    )
    .argument(image())
    .argument(compression())
    .example("flash image.raw.xz --compression xz")
}

fn dump_storage() -> Command {
    Command::new(
        "dump",
        "Read the storage into a file and connect it to the dut",
        |invocation: Invocation| async move {
            let client = StorageMuxFlasherClient::new(invocation.device.handle.clone());
            let target = Target::parse(invocation.given.required("file")?);
            let options = options(&invocation, "dumping")?;
            client.dump_into(target, &options).await?;
            Ok(0)
        },
    )
    .argument(image())
    .argument(compression())
    .example("dump image.raw")
}

// === flashers ===

fn flash_partitions() -> Command {
    Command::new("flash", "Flash images to the device", flash_action)
        .argument(image().requirement(false))
        .argument(
            Argument::option(
                "target",
                ValueKind::Text,
                "An image for one partition, as name:file; may be repeated",
            )
            .short('t')
            .repeated(),
        )
        .argument(Argument::option(
            "partition",
            ValueKind::Text,
            "Partition for FILE",
        ))
        .argument(compression())
        .example("flash image.raw")
        .example("flash -t boot:boot.img -t system:system.img")
}

async fn flash_action(invocation: Invocation) -> Result<u8> {
    let client = FlasherClient::new(invocation.device.handle.clone());
    let given = &invocation.given;
    let specifications = given.all("target");
    if !specifications.is_empty() {
        let images = images(specifications)?;
        let options = options(&invocation, "flashing")?;
        client.flash_all(images, &options).await?;
        return Ok(0);
    }
    let file = given.get("file").ok_or_else(|| {
        Error::invalid_argument("FILE argument is required unless --target/-t is used")
    })?;
    let partition = given.get("partition");
    let options = options(&invocation, "flashing")?;
    client
        .flash_from(Source::parse(file), partition, &options)
        .await?;
    Ok(0)
}

/// Takes specifications apart; the last one for a partition counts.
fn images(specifications: &[String]) -> Result<BTreeMap<String, Source>> {
    let mut images = BTreeMap::new();
    for specification in specifications {
        let (name, file) = specification
            .split_once(':')
            .filter(|(name, file)| !name.is_empty() && !file.is_empty())
            .ok_or_else(|| {
                Error::invalid_argument(format!(
                    "Invalid target spec '{specification}', expected name:file"
                ))
            })?;
        images.insert(name.to_owned(), Source::parse(file));
    }
    Ok(images)
}

fn dump_partition() -> Command {
    Command::new(
        "dump",
        "Dump an image from the device",
        |invocation: Invocation| async move {
            let client = FlasherClient::new(invocation.device.handle.clone());
            let given = &invocation.given;
            let target = Target::parse(given.required("file")?);
            let partition = given.get("target").or(given.get("partition"));
            let options = options(&invocation, "dumping")?;
            client.dump_into(target, partition, &options).await?;
            Ok(0)
        },
    )
    .argument(image())
    .argument(Argument::option(
        "target",
        ValueKind::Text,
        "Partition to dump",
    ))
    .argument(Argument::option(
        "partition",
        ValueKind::Text,
        "Older name of --target",
    ))
    .argument(compression())
    .example("dump image.raw --target boot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_specifications_are_taken_apart_at_the_first_colon() {
        let given = ["boot:a:b.img", "root:http://host/x?y=1"].map(str::to_owned);
        let images = images(&given).unwrap();
        assert!(matches!(&images["boot"], Source::File(path) if path.as_os_str() == "a:b.img"));
        assert!(matches!(images["root"], Source::Http(_)));
        for wrong in ["boot", ":file", "boot:"] {
            let error = super::images(&[wrong.to_owned()]).map(drop).unwrap_err();
            assert_eq!(
                error.message(),
                format!("Invalid target spec '{wrong}', expected name:file")
            );
        }
    }
}

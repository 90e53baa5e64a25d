//! `j lamp …`

use futures::StreamExt;
use futures::future::BoxFuture;
use jmp_driver::Result;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, ValueKind,
};
use jmp_interfaces::resource::Source;

use crate::interface::LampClient;

/// Client type of [`crate::interface::Lamp`].
pub const LAMP: ClientType = ClientType {
    classes: &["example_lamp.client.LampClient"],
    about: "Lamp",
    commands: lamp,
};

fn lamp(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async { Ok(Commands::Group(vec![set(), watch(), play()])) })
}

fn client(invocation: &Invocation) -> LampClient {
    LampClient::new(invocation.device.handle.clone())
}

fn set() -> Command {
    Command::new(
        "set",
        "Set the brightness",
        async |invocation: Invocation| {
            let percent = invocation.given.number("percent")?.unwrap_or(100);
            client(&invocation).set(percent).await?;
            println!("ok");
            Ok(0)
        },
    )
    .argument(
        Argument::positional("percent", ValueKind::Integer, "0 to 100; 100 by default")
            .requirement(false),
    )
    .example("set 40")
}

fn watch() -> Command {
    Command::new(
        "watch",
        "Follow the brightness",
        async |invocation: Invocation| {
            let mut changes = client(&invocation).watch().await?;
            while let Some(percent) = changes.next().await {
                println!("{} %", percent?);
            }
            Ok(0)
        },
    )
}

fn play() -> Command {
    Command::new("play", "Play a pattern", async |invocation: Invocation| {
        let source = Source::parse(invocation.given.required("file")?);
        let times = invocation.given.number("times")?.unwrap_or(1);
        let steps = client(&invocation).play_from(source, times).await?;
        println!("{steps} steps");
        Ok(0)
    })
    .argument(Argument::positional(
        "file",
        ValueKind::File,
        "Lines `PERCENT MILLISECONDS`",
    ))
    .argument(
        Argument::option("times", ValueKind::Integer, "How often")
            .short('n')
            .default_value("1"),
    )
    .example("play sunrise.txt --times 3")
}

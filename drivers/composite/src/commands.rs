//! `j GROUP …`: a group has no commands of its own, its children are the commands.

use futures::future::BoxFuture;
use jmp_driver::Result;
use jmp_driver::command::{ClientType, Commands, DeviceInfo};

/// Client type of groups, the root of every device tree included.
pub const COMPOSITE: ClientType = ClientType {
    classes: &["jumpstarter_driver_composite.client.CompositeClient"],
    about: "Generic composite device",
    commands: composite,
};

fn composite(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async { Ok(Commands::Group(Vec::new())) })
}

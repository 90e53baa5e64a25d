//! What a device offers: the commands of its client type and the generic ones.

use std::sync::OnceLock;

use jmp_client::{Client, Device};
use jmp_driver::command::{ClientRegistry, ClientType, Command, Commands, DeviceInfo};

use super::failure::Result;
use super::generic;

/// The commands of one device.
#[derive(Debug)]
pub struct Offer {
    /// Those of the client type; none if nobody knows the class.
    pub own: Own,
    /// Those that every device has.
    pub generic: Vec<Command>,
}

/// Commands of a client type.
#[derive(Debug)]
pub enum Own {
    /// `j NAME COMMAND …`.
    Group(Vec<Command>),
    /// `j NAME …`.
    Single(Box<Command>),
    /// Nobody knows the class: the generic commands are all there is.
    Unknown,
}

/// All client types.
fn clients() -> &'static ClientRegistry {
    static CLIENTS: OnceLock<ClientRegistry> = OnceLock::new();
    CLIENTS.get_or_init(driver_all::clients)
}

/// The client type of a device.
pub fn client_type(device: &Device) -> Option<&'static ClientType> {
    clients().get(device.class())
}

/// What `commands` need to know about a device.
///
/// # Errors
///
/// If the allow list does not cover it.
pub fn info(device: &Device) -> Result<DeviceInfo> {
    Ok(DeviceInfo {
        path: device.path().to_owned(),
        handle: device.handle()?,
        labels: device.labels().clone(),
    })
}

/// The words of the exporter's administrator about a device, else those of its client type.
pub fn about(device: &Device) -> String {
    let described = device
        .description()
        .filter(|text| !text.trim().is_empty())
        .map(str::to_owned);
    described.unwrap_or_else(|| match client_type(device) {
        Some(client) => client.about.to_owned(),
        None => format!("Driver of unknown client class {}", device.class()),
    })
}

/// Help of a command: `methods_description` of the device comes before the built-in text.
/// Command names have hyphens where methods have underscores; both are found.
pub fn command_about(device: &Device, command: &Command) -> String {
    let configured = device.methods_description();
    configured
        .get(command.name.as_ref())
        .or_else(|| configured.get(&command.name.replace('-', "_")))
        .cloned()
        .unwrap_or_else(|| command.about.to_string())
}

// === impl Offer ===

impl Offer {
    /// Makes the commands of one device, asking it if its client type does.
    ///
    /// # Errors
    ///
    /// If the allow list does not cover the device, or it cannot be asked.
    pub async fn of(client: &Client, device: &Device) -> Result<Self> {
        let info = info(device)?;
        let own = match client_type(device) {
            None => Own::Unknown,
            Some(client_type) => match (client_type.commands)(info).await? {
                Commands::Group(commands) => Own::Group(commands),
                Commands::Single(command) => Own::Single(command),
            },
        };
        Ok(Self {
            own,
            generic: generic::commands(client, device),
        })
    }

    /// A group's command by its name.
    pub fn find(&self, name: &str) -> Option<&Command> {
        let own = match &self.own {
            Own::Group(commands) => commands.as_slice(),
            Own::Single(_) | Own::Unknown => &[],
        };
        own.iter()
            .chain(&self.generic)
            .find(|command| command.name == name)
    }

    /// Commands that belong into the help of the group.
    pub fn shown(&self) -> &[Command] {
        match &self.own {
            Own::Group(commands) => commands,
            Own::Single(_) => &[],
            Own::Unknown => &self.generic,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use jmp_driver::handle::Target;
    use jmp_driver::{ByteStream, DriverHandle, Error, ResourceHandle, Result, ValueStream};
    use prost_types::Value;

    use super::super::leaf::Leaf;
    use super::*;

    /// A device that cannot be asked.
    struct Absent;

    #[async_trait]
    impl Target for Absent {
        async fn call(&self, _: &str, _: Vec<Value>) -> Result<Value> {
            Err(Error::timeout("absent"))
        }

        async fn streaming_call(&self, _: &str, _: Vec<Value>) -> Result<ValueStream> {
            Err(Error::timeout("absent"))
        }

        async fn open_stream(&self, _: &str) -> Result<ByteStream> {
            Err(Error::timeout("absent"))
        }

        async fn open_resource(&self, _: Option<&str>) -> Result<(ResourceHandle, ByteStream)> {
            Err(Error::timeout("absent"))
        }
    }

    /// Contradictions, such as two options with one letter, are found by the parser itself.
    #[tokio::test]
    async fn commands_of_all_client_types_make_sound_parsers() {
        let mut count = 0;
        for client in clients().types() {
            let info = DeviceInfo {
                path: "device".into(),
                handle: DriverHandle::new(Absent),
                labels: Default::default(),
            };
            // Those that ask the device have nothing to check here.
            let commands = match (client.commands)(info).await {
                Ok(Commands::Group(commands)) => commands,
                Ok(Commands::Single(command)) => vec![*command],
                Err(_) => continue,
            };
            for command in &commands {
                let leaf = Leaf {
                    program: format!("j device {}", command.name),
                    about: command.about.to_string(),
                    command,
                };
                leaf.parser().debug_assert();
                count += 1;
            }
        }
        assert!(count >= 8, "{count} commands");
    }
}

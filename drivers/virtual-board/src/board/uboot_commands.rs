//! The commands of U-Boot's prompt.

use super::environment::{CAPACITY, Environment};
use super::image::HEADER_LENGTH;
use super::rom::read_header;
use super::stage::Context;
use super::uboot::{Purpose, UBoot, VERSION};

/// Name, one-line help and usage, in the order in which `help` shows them.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("bdinfo", "print Board Info structure", ""),
    ("boot", "boot default, i.e., run 'bootcmd'", ""),
    ("bootm", "boot the system on the card", ""),
    ("echo", "echo args to console", "[args..]"),
    (
        "env",
        "environment handling commands",
        "default -a | print [name ...] | save | set name [value ...]",
    ),
    ("false", "do nothing, unsuccessfully", ""),
    (
        "hash",
        "compute hash message digest",
        "sha256 mmc\n    - over the payload of the card",
    ),
    ("help", "print command description/usage", "[command]"),
    ("mmc", "MMC sub system", "info | dev [dev] | rescan"),
    ("printenv", "print environment variables", "[name ...]"),
    ("reset", "Perform RESET of the CPU", ""),
    (
        "run",
        "run commands in an environment variable",
        "var [...]",
    ),
    (
        "saveenv",
        "save environment variables to persistent storage",
        "",
    ),
    ("setenv", "set environment variables", "name [value ...]"),
    ("true", "do nothing, successfully", ""),
    ("version", "print monitor, compiler and linker version", ""),
];

const NO_CARD: &str = "MMC: no card present";

impl UBoot {
    /// Runs one command, which is not empty, and keeps its status. Commands
    /// that take time leave a state behind that ends later.
    pub(super) fn command(&mut self, words: &[&str], context: &mut Context<'_>) {
        let status = match words {
            ["boot" | "bootd"] => self.run(&["bootcmd"], context),
            ["run", names @ ..] if !names.is_empty() => self.run(names, context),
            ["bootm", ..] => return self.bootm(context),
            ["hash", "sha256", "mmc"] => return self.hash_card(context),
            ["reset", ..] => return self.reset(context),
            ["mmc", arguments @ ..] if !arguments.is_empty() => mmc(arguments, context),
            ["printenv", names @ ..] | ["env", "print", names @ ..] => {
                self.printenv(names, context)
            }
            ["setenv", name, values @ ..] | ["env", "set", name, values @ ..] => {
                self.setenv(name, &values.join(" "), context)
            }
            ["saveenv"] | ["env", "save"] => {
                *context.saved_environment = Some(self.environment.clone());
                context.console.line("Saving Environment to SPIFlash... Erasing SPI flash...Writing to SPI flash...done\nOK");
                0
            }
            ["env", "default", "-a"] => {
                self.environment =
                    Environment::default_for(context.config, &self.header.command_line);
                context.console.line("## Resetting to default environment");
                0
            }
            ["help" | "?", names @ ..] => help(names, context),
            ["version"] => {
                context
                    .console
                    .line(&format!("{VERSION}\n\naarch64-linux-gnu-gcc (GCC) 14.2.0"));
                0
            }
            ["bdinfo"] => {
                context.console.line(
                    "boot_params = 0x0000000000000000\nDRAM bank   = 0x0000000000000000\n\
                     -> start    = 0x0000000040000000\n-> size     = 0x0000000020000000\n\
                     baudrate    = 115200 bps\nrelocaddr   = 0x000000005ff2a000\nBuild       = 64-bit",
                );
                0
            }
            ["echo", arguments @ ..] => {
                context.console.line(&arguments.join(" "));
                0
            }
            ["true"] => 0,
            ["false"] => 1,
            [name, ..] => unknown_or_usage(name, context),
            [] => 0,
        };
        self.queue.status = status;
    }

    fn run(&mut self, names: &[&str], context: &mut Context<'_>) -> u8 {
        for name in names.iter().rev() {
            let Some(script) = self.environment.get(name).map(str::to_owned) else {
                context
                    .console
                    .line(&format!("## Error: \"{name}\" not defined"));
                return 1;
            };
            if let Err(error) = self.queue.push_front(&script) {
                context.console.line(&error.to_string());
                self.queue.clear();
                return 1;
            }
        }
        0
    }

    fn bootm(&mut self, context: &mut Context<'_>) {
        // Read again: the card may have been changed since the ROM saw it.
        let header = match read_header(context.storage) {
            Ok(header) => header,
            Err("no card detected") => {
                context.console.line(NO_CARD);
                return self.finish(1, context);
            }
            Err(reason) => {
                context
                    .console
                    .line(&format!("mmc0: {reason}\nERROR: can't get kernel image!"));
                return self.finish(1, context);
            }
        };
        let available = context.storage.length_as_board().unwrap_or(0);
        let end = header.payload_length.saturating_add(HEADER_LENGTH as u64);
        if available < end {
            context.console.line(&format!(
                "mmc0: image truncated: {end} bytes expected, {available} on the card\nERROR: can't get kernel image!"
            ));
            return self.finish(1, context);
        }
        context.console.text(&format!(
            "## Loading system from mmc 0 ...\n   Version:      {}\n   Data Size:    {} Bytes\n   Verifying Hash Integrity ... sha256+ ",
            header.version, header.payload_length,
        ));
        self.hash(
            (HEADER_LENGTH as u64, end),
            Purpose::Boot(Box::new(header)),
            context,
        );
    }

    fn hash_card(&mut self, context: &mut Context<'_>) {
        let Ok(length) = context.storage.length_as_board() else {
            context.console.line(NO_CARD);
            return self.finish(1, context);
        };
        let start = HEADER_LENGTH as u64;
        let end = match read_header(context.storage) {
            Ok(header) => header.payload_length.saturating_add(start).min(length),
            Err(_) => length,
        };
        self.hash((start, end), Purpose::Show { start, end }, context);
    }

    fn printenv(&self, names: &[&str], context: &mut Context<'_>) -> u8 {
        if names.is_empty() {
            for (name, value) in self.environment.iter() {
                context.console.line(&format!("{name}={value}"));
            }
            let size = self.environment.size();
            context
                .console
                .line(&format!("\nEnvironment size: {size}/{CAPACITY} bytes"));
            return 0;
        }
        let mut status = 0;
        for name in names {
            match self.environment.get(name) {
                Some(value) => context.console.line(&format!("{name}={value}")),
                None => {
                    context
                        .console
                        .line(&format!("## Error: \"{name}\" not defined"));
                    status = 1;
                }
            }
        }
        status
    }

    fn setenv(&mut self, name: &str, value: &str, context: &mut Context<'_>) -> u8 {
        if self.environment.set(name, value) {
            return 0;
        }
        context
            .console
            .line(&if name.is_empty() || name.contains('=') {
                format!("## Error: illegal character '=' in variable name \"{name}\"")
            } else {
                format!("## Error: environment overflow, \"{name}\" not set")
            });
        1
    }
}

fn mmc(arguments: &[&str], context: &mut Context<'_>) -> u8 {
    match arguments {
        ["dev", "0"] | ["dev"] | ["rescan"] | ["info"]
            if context.storage.length_as_board().is_err() =>
        {
            context.console.line(NO_CARD);
            1
        }
        ["dev", "0"] => {
            context
                .console
                .line("switch to partitions #0, OK\nmmc0 is current device");
            0
        }
        ["dev"] => {
            context.console.line("mmc0 is current device");
            0
        }
        ["rescan"] => 0,
        ["info"] => {
            let mebibytes = context.config.storage_size >> 20;
            context.console.line(&format!(
                "Device: mmc@0\nManufacturer ID: 4a\nName: JMPSD\nBus Speed: 50000000\n\
                 Mode: SD High Speed (50MHz)\nRd Block Len: 512\nSD version 3.0\n\
                 High Capacity: Yes\nCapacity: {mebibytes} MiB\nBus Width: 4-bit"
            ));
            0
        }
        ["dev", device, ..] => {
            context
                .console
                .line(&format!("MMC Device {device} not found"));
            1
        }
        _ => unknown_or_usage("mmc", context),
    }
}

fn help(names: &[&str], context: &mut Context<'_>) -> u8 {
    if names.is_empty() {
        for (name, summary, _) in COMMANDS {
            context.console.line(&format!("{name:<9} - {summary}"));
        }
        return 0;
    }
    let mut status = 0;
    for wanted in names {
        match COMMANDS.iter().find(|(name, ..)| name == wanted) {
            Some((name, summary, usage)) => {
                context
                    .console
                    .line(&format!("{name} - {summary}\n\nUsage:\n{name} {usage}"));
            }
            None => {
                context.console.line(&format!(
                    "Unknown command '{wanted}' - try 'help' without arguments for list of all known commands"
                ));
                status = 1;
            }
        }
    }
    status
}

fn unknown_or_usage(name: &str, context: &mut Context<'_>) -> u8 {
    if COMMANDS.iter().any(|(known, ..)| *known == name) {
        help(&[name], context);
    } else {
        context
            .console
            .line(&format!("Unknown command '{name}' - try 'help'"));
    }
    1
}

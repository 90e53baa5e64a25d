//! `j` commands of the OpenDAL driver (facts: drivers 1.3.1; lost in 0.9, back here).

use futures::StreamExt;
use futures::future::BoxFuture;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, OutputFormat, ValueKind,
};
use jmp_driver::{ByteStream, Error, Result};
use jmp_interfaces::opendal::{HashAlgorithm, Metadata, OpendalClient, PresignedRequest};
use jmp_interfaces::progress::bar;
use jmp_interfaces::resource::{Source, Target, TransferOptions};
use serde_json::json;

/// Client type of [`jmp_interfaces::opendal::Opendal`].
pub const OPENDAL: ClientType = ClientType {
    classes: &["jumpstarter_driver_opendal.client.OpendalClient"],
    about: "Opendal Storage",
    commands: opendal,
};

fn opendal(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    let mut commands = vec![
        write_bytes(),
        read_bytes(),
        write_from_path(),
        read_into_path(),
        stat(),
        hash(),
    ];
    commands.extend(changes());
    commands.extend([exists(), list(), scan()]);
    commands.extend(presigned());
    commands.push(capability());
    Box::pin(async { Ok(Commands::Group(commands)) })
}

fn client(invocation: &Invocation) -> OpendalClient {
    OpendalClient::new(invocation.device.handle.clone())
}

fn path(name: &'static str) -> Argument {
    Argument::positional(name, ValueKind::Text, "Path on the exporter")
}

fn text(invocation: &Invocation, name: &str) -> Result<String> {
    invocation.given.required(name).map(str::to_owned)
}

/// Data that is JSON whatever the format: it is what was promised as text, and YAML as well.
fn print_json(value: &impl serde::Serialize) -> Result<u8> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::other(format!("the answer cannot be shown: {error}")))?;
    println!("{text}");
    Ok(0)
}

/// One entry a line, as it comes in: as it is, as a JSON string, or as an item of a YAML list.
fn print_entry(entry: &str, format: OutputFormat) {
    match format {
        OutputFormat::Text | OutputFormat::Name => println!("{entry}"),
        OutputFormat::Json => println!("{}", json!(entry)),
        // A JSON string is a YAML string.
        OutputFormat::Yaml => println!("- {}", json!(entry)),
    }
}

// === data ===

fn write_bytes() -> Command {
    Command::new(
        "write-bytes",
        "Write standard input to a file",
        |invocation: Invocation| async move {
            let stream = ByteStream::from_halves(tokio::io::stdin(), tokio::io::sink());
            let source = Source::Stream(stream.reader, None);
            let options = TransferOptions::default();
            client(&invocation)
                .write_from_path(&text(&invocation, "path")?, source, &options)
                .await?;
            Ok(0)
        },
    )
    .argument(path("path"))
}

fn read_bytes() -> Command {
    Command::new(
        "read-bytes",
        "Read a file to standard output",
        |invocation: Invocation| async move {
            let stream = ByteStream::from_halves(tokio::io::empty(), tokio::io::stdout());
            let target = Target::Stream(stream.writer);
            let options = TransferOptions::default();
            client(&invocation)
                .read_into_path(&text(&invocation, "path")?, target, &options)
                .await?;
            Ok(0)
        },
    )
    .argument(path("path"))
}

fn write_from_path() -> Command {
    Command::new(
        "write-from-path",
        "Write a local file, or what an http(s) address has, to a file",
        |invocation: Invocation| async move {
            let destination = text(&invocation, "dst")?;
            let source = Source::parse(invocation.given.required("src")?);
            let options = TransferOptions {
                progress: bar(&invocation, "writing"),
                ..Default::default()
            };
            client(&invocation)
                .write_from_path(&destination, source, &options)
                .await?;
            Ok(0)
        },
    )
    .argument(path("dst"))
    .argument(Argument::positional(
        "src",
        ValueKind::File,
        "Local file, or http(s) address",
    ))
    .example("write-from-path images/board.raw board.raw")
}

fn read_into_path() -> Command {
    Command::new(
        "read-into-path",
        "Read a file into a local file, or send it to an http(s) address",
        |invocation: Invocation| async move {
            let source = text(&invocation, "src")?;
            let target = Target::parse(invocation.given.required("dst")?);
            let options = TransferOptions {
                progress: bar(&invocation, "reading"),
                ..Default::default()
            };
            client(&invocation)
                .read_into_path(&source, target, &options)
                .await?;
            Ok(0)
        },
    )
    .argument(path("src"))
    .argument(Argument::positional(
        "dst",
        ValueKind::File,
        "Local file, or http(s) address",
    ))
}

// === questions ===

fn stat() -> Command {
    Command::new(
        "stat",
        "Show what is known about an entry",
        |invocation: Invocation| async move {
            let Metadata {
                content_disposition,
                content_length,
                content_md5,
                content_type,
                etag,
                mode,
            } = client(&invocation).stat(text(&invocation, "path")?).await?;
            // The keys of the mode are not those of the wire.
            print_json(&json!({
                "content_disposition": content_disposition,
                "content_length": content_length,
                "content_md5": content_md5,
                "content_type": content_type,
                "etag": etag,
                "mode": { "is_file": mode.entry_is_file, "is_dir": mode.entry_is_dir },
            }))
        },
    )
    .argument(path("path"))
}

fn hash() -> Command {
    Command::new(
        "hash",
        "Show the hash of a file",
        |invocation: Invocation| async move {
            let algorithm = match invocation.given.get("algo") {
                Some("md5") => HashAlgorithm::Md5,
                _ => HashAlgorithm::Sha256,
            };
            let hash = client(&invocation)
                .hash(text(&invocation, "path")?, algorithm)
                .await?;
            println!("{hash}");
            Ok(0)
        },
    )
    .argument(path("path"))
    .argument(
        Argument::option(
            "algo",
            ValueKind::Choice(vec!["md5".into(), "sha256".into()]),
            "Which hash",
        )
        .default_value("sha256"),
    )
}

fn exists() -> Command {
    Command::new(
        "exists",
        "Fail unless there is such an entry",
        |invocation: Invocation| async move {
            let path = text(&invocation, "path")?;
            if client(&invocation).exists(path.clone()).await? {
                Ok(0)
            } else {
                Err(Error::other(format!("path {path} does not exist")))
            }
        },
    )
    .argument(path("path"))
}

fn list() -> Command {
    Command::new(
        "list",
        "List a directory",
        |invocation: Invocation| async move {
            let mut entries = client(&invocation).list(text(&invocation, "path")?).await?;
            while let Some(entry) = entries.next().await {
                print_entry(&entry?, invocation.output);
            }
            Ok(0)
        },
    )
    .argument(path("path"))
}

fn scan() -> Command {
    Command::new(
        "scan",
        "List a directory with everything below it",
        |invocation: Invocation| async move {
            let mut entries = client(&invocation).scan(text(&invocation, "path")?).await?;
            while let Some(entry) = entries.next().await {
                print_entry(&entry?, invocation.output);
            }
            Ok(0)
        },
    )
    .argument(path("path"))
}

fn capability() -> Command {
    Command::new(
        "capability",
        "Show what the service can do",
        |invocation: Invocation| async move { print_json(&client(&invocation).capability().await?) },
    )
}

// === changes ===

fn changes() -> Vec<Command> {
    vec![
        Command::new("copy", "Copy a file", |invocation: Invocation| async move {
            let source = text(&invocation, "source")?;
            let target = text(&invocation, "target")?;
            client(&invocation).copy(source, target).await?;
            Ok(0)
        })
        .argument(path("source"))
        .argument(path("target")),
        Command::new(
            "rename",
            "Rename a file",
            |invocation: Invocation| async move {
                let source = text(&invocation, "source")?;
                let target = text(&invocation, "target")?;
                client(&invocation).rename(source, target).await?;
                Ok(0)
            },
        )
        .argument(path("source"))
        .argument(path("target")),
        Command::new(
            "remove-all",
            "Remove an entry and everything below it",
            |invocation: Invocation| async move {
                let path = text(&invocation, "path")?;
                client(&invocation).remove_all(path).await?;
                Ok(0)
            },
        )
        .argument(path("path")),
        Command::new(
            "create-dir",
            "Create a directory; the path ends in /",
            |invocation: Invocation| async move {
                let path = text(&invocation, "path")?;
                client(&invocation).create_dir(path).await?;
                Ok(0)
            },
        )
        .argument(path("path"))
        .example("create-dir images/"),
        Command::new(
            "delete",
            "Delete a file or an empty directory",
            |invocation: Invocation| async move {
                client(&invocation)
                    .delete(text(&invocation, "path")?)
                    .await?;
                Ok(0)
            },
        )
        .argument(path("path")),
    ]
}

// === presigned requests ===

fn presigned() -> Vec<Command> {
    let commands = vec![
        Command::new(
            "presign-stat",
            "Make an HTTP request that asks about an entry",
            |invocation: Invocation| async move {
                let (path, expire) = presigned_arguments(&invocation)?;
                show(&client(&invocation).presign_stat(path, expire).await?)
            },
        ),
        Command::new(
            "presign-read",
            "Make an HTTP request that reads a file",
            |invocation: Invocation| async move {
                let (path, expire) = presigned_arguments(&invocation)?;
                show(&client(&invocation).presign_read(path, expire).await?)
            },
        ),
        Command::new(
            "presign-write",
            "Make an HTTP request that writes a file",
            |invocation: Invocation| async move {
                let (path, expire) = presigned_arguments(&invocation)?;
                show(&client(&invocation).presign_write(path, expire).await?)
            },
        ),
    ];
    let expire = Argument::option(
        "expire-second",
        ValueKind::Integer,
        "How long it stays good, in seconds",
    )
    .requirement(true);
    commands
        .into_iter()
        .map(|command| command.argument(path("path")).argument(expire.clone()))
        .collect()
}

fn presigned_arguments(invocation: &Invocation) -> Result<(String, u64)> {
    let expire: u64 = invocation
        .given
        .number("expire-second")?
        .ok_or_else(|| Error::invalid_argument("argument `expire-second` is missing"))?;
    Ok((text(invocation, "path")?, expire))
}

fn show(request: &PresignedRequest) -> Result<u8> {
    print_json(request)
}

//! Plays a lab for `cargo xtask bench`: thousands of exporters, clients that lease, tunnels, a slow network.
//!
//! Each command is one process of the lab. What it measures it prints as `name value` lines on standard
//! output; a command that stays does so until its standard input ends. Identities and tokens are made from
//! the controller's data directory ([`lab`]), so that a lab of any size is there at once.

mod delay;
mod exporters;
mod idle;
mod lab;
mod leases;
mod relay;
mod seed;
mod tunnel;
mod tunnels;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use lab::{Outcome, Place};

/// Plays a lab.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Where the lab is.
#[derive(clap::Args)]
struct At {
    /// Data directory of the controller.
    #[arg(long)]
    data: PathBuf,
    /// `host:port` of the controller.
    #[arg(long)]
    endpoint: String,
}

#[derive(Subcommand)]
enum Command {
    /// Fills an empty data directory, before the controller's first start.
    Seed {
        #[arg(long)]
        data: PathBuf,
        /// Exporters.
        #[arg(long)]
        exporters: usize,
        /// So many of them, the first, are for leases.
        #[arg(long, default_value_t = 0)]
        playing: usize,
        /// Leases that have ended.
        #[arg(long, default_value_t = 0)]
        ended: usize,
    },
    /// Prints a token and the authority, for configuration files.
    Token {
        #[command(flatten)]
        at: At,
        /// `client` or `exporter`.
        kind: String,
        /// Number of the object.
        number: usize,
    },
    /// Connects exporters and keeps them connected.
    Exporters {
        #[command(flatten)]
        at: At,
        /// Number of the first.
        #[arg(long, default_value_t = 0)]
        first: usize,
        /// So many that only register and listen for leases.
        #[arg(long, default_value_t = 0)]
        idle: usize,
        /// So many that are real ones and can be leased; the first.
        #[arg(long, default_value_t = 0)]
        playing: usize,
    },
    /// Leases, connects, calls a driver, releases.
    Leases {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        count: usize,
        #[arg(long)]
        per_minute: f64,
    },
    /// Many tunnels at one time.
    Tunnels {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        count: usize,
        /// Over so many leases.
        #[arg(long)]
        leases: usize,
    },
    /// One tunnel.
    Tunnel {
        #[command(flatten)]
        at: At,
        /// Round trip time that is put between client and router, in ms.
        #[arg(long, default_value_t = 0)]
        rtt: u64,
        /// `call`, `receive` or `send`.
        measure: String,
        /// Calls, or bytes.
        count: u64,
    },
    /// A rustls relay and nothing else: source, relay and sink in three processes.
    Relay {
        /// Bytes.
        count: u64,
    },
    /// The relay of `relay`.
    #[command(hide = true)]
    RelayServer {
        /// Where the source is.
        source: u16,
        directory: PathBuf,
    },
    /// The source of `relay`.
    #[command(hide = true)]
    RelaySource { directory: PathBuf },
}

fn main() -> ExitCode {
    jmp_wire::tls::install_provider();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(arguments.command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jmp-bench-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome<()> {
    lab::raise_file_limit()?;
    match command {
        Command::Seed {
            data,
            exporters,
            playing,
            ended,
        } => seed::seed(&data, exporters, playing, ended).await,
        Command::Token { at, kind, number } => {
            let place = Place::open(&at.data, &at.endpoint)?;
            let credentials = match kind.as_str() {
                "client" => place.client()?,
                _ => place.exporter(number)?,
            };
            println!("token {}", credentials.token);
            println!("name {}", credentials.name);
            println!("ca {}", place.authority);
            Ok(())
        }
        Command::Exporters {
            at,
            first,
            idle,
            playing,
        } => {
            let place = Place::open(&at.data, &at.endpoint)?;
            exporters::run(&place, first, playing, idle).await
        }
        Command::Leases {
            at,
            count,
            per_minute,
        } => {
            let place = Place::open(&at.data, &at.endpoint)?;
            let interval = Duration::from_secs_f64(60.0 / per_minute);
            leases::run(&place, count, interval).await
        }
        Command::Tunnels { at, count, leases } => {
            let place = Place::open(&at.data, &at.endpoint)?;
            tunnels::run(&place, count, leases).await
        }
        Command::Tunnel {
            at,
            rtt,
            measure,
            count,
        } => {
            let place = Place::open(&at.data, &at.endpoint)?;
            tunnel::run(&place, Duration::from_millis(rtt), &measure, count).await
        }
        Command::Relay { count } => relay::run(count).await,
        Command::RelayServer { source, directory } => relay::server(source, &directory).await,
        Command::RelaySource { directory } => relay::source(&directory).await,
    }
}

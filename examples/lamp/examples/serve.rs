//! Serves a lamp without hardware on a unix socket, so that an unmodified `j` can use it:
//! `cargo run -p example-lamp --example serve -- lamp.sock`.

use std::path::PathBuf;
use std::process::ExitCode;

use jmp_driver::{NodeSpec, Origin, Registry};
use jmp_exporter::{Session, SessionOptions};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(socket) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: example-lamp SOCKET");
        return ExitCode::from(2);
    };
    match serve(socket).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(socket: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let mut registry = Registry::new();
    // For the group around the lamp.
    driver_composite::register(&mut registry);
    example_lamp::register(&mut registry);
    let lamp = NodeSpec::Driver {
        type_name: "example_lamp.driver.MockLamp".into(),
        config: Default::default(),
        description: Some("The lamp on the desk".into()),
        methods_description: Default::default(),
        children: Vec::new(),
    };
    let root = NodeSpec::Group {
        description: None,
        children: vec![("lamp".into(), lamp)],
    };
    let session = Session::open(&registry, &root, SessionOptions::default()).await?;
    session.serve_unix(&socket, Origin::Client)?;
    session.start_local();
    eprintln!("serving; try JUMPSTARTER_HOST={} j lamp", socket.display());
    tokio::signal::ctrl_c().await?;
    session.close().await;
    Ok(())
}

//! Makes an image that a virtual board boots from:
//! `cargo run -p driver-virtual-board --example image -- image.bin [VERSION] [HOSTNAME]`.

use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;

use driver_virtual_board::board::{ImageOptions, write_image};

const LENGTH: u64 = 32 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: image FILE [VERSION] [HOSTNAME]");
        return ExitCode::from(2);
    };
    let options = ImageOptions {
        version: arguments.next().unwrap_or_else(|| "1.0".to_owned()),
        hostname: arguments.next().unwrap_or_default(),
        command_line: "console=ttyS0,115200 root=/dev/mmcblk0p2".to_owned(),
        length: LENGTH,
        seed: 1,
    };
    let written = File::create(&path)
        .map_err(|error| error.to_string())
        .and_then(|file| {
            let mut writer = BufWriter::new(file);
            write_image(&options, &mut writer).map_err(|error| error.to_string())
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

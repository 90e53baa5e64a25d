//! The story itself: what a client does with a board, from an image to a login.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use indicatif::ProgressBar;
use jmp_client::console::{Console, ConsoleError, Pattern};
use jmp_client::lease::short_name;
use jmp_client::{AllowList, ByteStream, Client, Device, Dialer};
use jmp_interfaces::power::{PowerClient, PowerReading};
use jmp_interfaces::resource::{Source, TransferOptions, upload};
use jmp_interfaces::serial::SerialClient;
use jmp_interfaces::storage_mux::StorageMuxClient;

use super::Args;
use super::console::{excerpt, last_line};
use super::image::Image;
use super::lab::Lab;
use super::narrator::{Narrator, Scene};
use crate::error::CliError;

/// A step that only makes a call.
const SHORT: Duration = Duration::from_secs(5);
/// A step in which the board does something.
const LONG: Duration = Duration::from_secs(10);
/// A step that moves a large file.
const TRANSFER: Duration = Duration::from_secs(120);

/// How long the board may be silent about what is waited for, less than its step may take.
const PATIENCE: Duration = Duration::from_secs(9);

const UBOOT_PROMPT: &str = "=> ";
const SHELL_PROMPT: &str = ":~# ";
/// What the board says when it will not come up.
const TROUBLE: [&str; 5] = [
    "no boot device",
    "### ERROR ###",
    "Bad Data Hash",
    "ERROR: can't get kernel image",
    "Kernel panic",
];

/// A step that did not work.
#[derive(Debug)]
pub struct Failure {
    /// Title of the step.
    pub step: &'static str,
    /// Why it failed.
    pub reason: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

/// The serial console and everything it said.
struct Serial {
    console: Console,
    said: Arc<Said>,
    /// How much of it was shown already.
    shown: usize,
}

/// What the console said, whoever waited for it, and where its last line is shown.
#[derive(Default)]
struct Said(Mutex<(String, Option<ProgressBar>)>);

/// The clients of the board's parts.
struct Board {
    power: PowerClient,
    storage: StorageMuxClient,
    serial: SerialClient,
}

// === impl Failure ===

impl Failure {
    /// The failure of a step.
    pub fn new(step: &'static str, error: CliError) -> Self {
        Self {
            step,
            hint: error.hint().map(str::to_owned),
            reason: error.message().to_owned(),
        }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::new("Telling the story", error)
    }
}

/// Tells the story in `lab`, which the caller stops.
///
/// # Errors
///
/// The first step that fails; what the console said was shown then.
pub async fn tell(narrator: &mut Narrator, arguments: &Args, lab: &mut Lab) -> Result<(), Failure> {
    start(narrator, arguments, lab).await?;
    lease(narrator, lab).await?;
    let board = find_board(narrator, lab).await?;
    let image = write_image(narrator, arguments, lab, &board).await?;
    let mut console = switch_on(narrator, &board).await?;
    let told = use_console(narrator, &image, &mut console).await;
    if told.is_err() {
        narrator.transcript(&console.said.text())?;
        return told;
    }
    measure(narrator, &board).await?;
    if arguments.keep {
        return Ok(());
    }
    switch_off(narrator, &board).await?;
    drop((board, console));
    narrator
        .step(("release", "Give the board back"), LONG, async |_| {
            lab.release().await
        })
        .await
}

/// Ends the lab, the last step.
///
/// # Errors
///
/// When something survives.
pub async fn stop(narrator: &mut Narrator, lab: Lab) -> Result<(), Failure> {
    let step = ("stop-lab", "Stop exporter, router and controller");
    narrator
        .step(step, TRANSFER, async |_| lab.stop().await)
        .await
}

async fn start(narrator: &mut Narrator, arguments: &Args, lab: &mut Lab) -> Result<(), Failure> {
    let step = ("start-controller", "Start a controller and a router");
    narrator
        .step(step, TRANSFER, async |scene| {
            lab.start_controller().await?;
            for (name, pid) in lab.processes() {
                scene.tell(format!("{name}  process {pid}"));
                scene.record(name, pid);
            }
            scene.tell(format!(
                "at {}, TLS with an authority of its own",
                lab.address()
            ));
            Ok(())
        })
        .await?;
    let step = ("start-exporter", "Start an exporter");
    narrator
        .step(step, TRANSFER, async |scene| {
            lab.start_exporter(arguments.fault).await?;
            if let Some((name, pid)) = lab.processes().last() {
                let file = lab.exporter_file();
                scene.tell(format!("process {pid}, configured by {}", file.display()));
                scene.record(name, pid);
            }
            Ok(())
        })
        .await
}

async fn lease(narrator: &mut Narrator, lab: &mut Lab) -> Result<(), Failure> {
    let step = ("lease", "Lease a board by its labels");
    narrator
        .step(step, LONG, async |scene| {
            let lease = lab.lease().await?;
            let name = short_name(&lease.name).to_owned();
            let exporter = short_name(lease.exporter.as_deref().unwrap_or_default());
            scene.tell(format!("{} gives {exporter}, lease {name}", lease.selector));
            scene.record("lease", name);
            scene.record("exporter", exporter);
            Ok(())
        })
        .await
}

async fn find_board(narrator: &mut Narrator, lab: &Lab) -> Result<Board, Failure> {
    let step = ("device-tree", "Connect and show the device tree");
    narrator
        .step(step, LONG, async |scene| {
            let dialer = Dialer::new(lab.dial()?);
            let client = Client::connect_with(dialer, &AllowList::Unsafe).await?;
            let mut tree = Vec::new();
            branches(client.root(), "", &mut tree);
            let width = tree.iter().map(|(name, _)| name.chars().count()).max();
            for (name, class) in &tree {
                let padding = width.unwrap_or_default() - name.chars().count() + 2;
                scene.tell(format!("{name}{}{class}", " ".repeat(padding)));
            }
            let devices: Vec<_> = client.root().walk();
            let paths = devices.iter().map(|device| device.path().to_owned());
            scene.record(
                "devices",
                paths.filter(|path| !path.is_empty()).collect::<Vec<_>>(),
            );
            Ok(Board {
                power: client.device("board.power")?.client()?,
                storage: client.device("board.storage")?.client()?,
                serial: client.device("board.serial")?.client()?,
            })
        })
        .await
}

/// The lines of the tree below `device`: drawn name and client class.
fn branches(device: &Device, indent: &str, lines: &mut Vec<(String, String)>) {
    let top = device.path().is_empty();
    let count = device.children().len();
    for (index, child) in device.children().iter().enumerate() {
        let (fork, below) = match (top, index + 1 == count) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let class = child.class().rsplit('.').next().unwrap_or_default();
        lines.push((format!("{indent}{fork}{}", child.name()), class.to_owned()));
        branches(child, &format!("{indent}{below}"), lines);
    }
}

async fn write_image(
    narrator: &mut Narrator,
    arguments: &Args,
    lab: &Lab,
    board: &Board,
) -> Result<Image, Failure> {
    let step = ("prepare-image", "Prepare an image");
    let image = narrator
        .step(step, TRANSFER, async |scene| {
            let image = Image::prepare(arguments, lab.directory().path())?;
            let version = match &image.version {
                Some(version) => format!("version {version}"),
                None => "nothing this board could boot".to_owned(),
            };
            let damaged = if arguments.corrupt {
                ", one bit flipped in the middle"
            } else {
                ""
            };
            scene.tell(format!("{}, {version}{damaged}", mebibytes(image.length)));
            scene.record("bytes", image.length);
            scene.record("version", image.version.clone());
            Ok(image)
        })
        .await?;
    let step = ("write-image", "Write the image to the storage");
    narrator
        .step(step, TRANSFER, async |scene| {
            board.storage.host().await?;
            let moved = scene.progress(image.length);
            let options = TransferOptions {
                progress: Some(Arc::new(move |progress| moved(progress.done))),
                ..TransferOptions::default()
            };
            let started = Instant::now();
            let source = Source::File(image.path.clone());
            upload(board.storage.handle(), source, &options, |handle| {
                board.storage.write(handle)
            })
            .await?;
            let rate = image.length as f64 / started.elapsed().as_secs_f64().max(1e-3);
            scene.tell(format!(
                "{} {} at {:.0} MiB/s",
                "━".repeat(30),
                mebibytes(image.length),
                rate / f64::from(1 << 20)
            ));
            scene.record("bytes_per_second", rate.round());
            Ok(())
        })
        .await?;
    Ok(image)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

async fn switch_on(narrator: &mut Narrator, board: &Board) -> Result<Serial, Failure> {
    let step = ("storage-to-dut", "Switch the storage to the board (DUT)");
    narrator
        .step(step, SHORT, async |_| Ok(board.storage.dut().await?))
        .await?;
    let step = ("power-on", "Power on");
    narrator
        .step(step, SHORT, async |_| {
            let console = Serial::new(board.serial.connect().await?);
            board.power.on().await?;
            Ok(console)
        })
        .await
}

async fn use_console(
    narrator: &mut Narrator,
    image: &Image,
    console: &mut Serial,
) -> Result<(), Failure> {
    narrator
        .step(("stop-u-boot", "Stop U-Boot"), LONG, async |scene| {
            console.wait(scene, "Hit any key to stop autoboot").await?;
            console.send(" ").await?;
            console.wait(scene, UBOOT_PROMPT).await?;
            console.quote(
                scene,
                &["BROM", "U-Boot 20", "Model", "DRAM:  ", "Hit any key", "=>"],
            );
            Ok(())
        })
        .await?;
    let step = ("set-variable", "Set a variable");
    narrator
        .step(step, LONG, async |scene| {
            console
                .send("setenv bootargs ${bootargs} story=demo\r")
                .await?;
            console.wait(scene, UBOOT_PROMPT).await?;
            console.send("printenv bootargs\r").await?;
            console.wait(scene, "story=demo\r\n").await?;
            console.wait(scene, UBOOT_PROMPT).await?;
            console.quote(scene, &["=", "story"]);
            Ok(())
        })
        .await?;
    narrator
        .step(("boot", "Boot"), LONG, async |scene| {
            console.send("boot\r").await?;
            console.wait(scene, " login: ").await?;
            console.quote(
                scene,
                &[
                    "Verifying",
                    "Linux version",
                    "Kernel command",
                    "VFS:",
                    "INIT",
                    "login:",
                ],
            );
            Ok(())
        })
        .await?;
    let step = ("log-in", "Log in on the serial console");
    narrator
        .step(step, LONG, async |scene| {
            console.send("root\r").await?;
            console.wait(scene, SHELL_PROMPT).await?;
            console.quote(scene, &["root", ":~#"]);
            Ok(())
        })
        .await?;
    narrator
        .step(("run-command", "Run a command"), LONG, async |scene| {
            console.send("cat /etc/os-release /proc/cmdline\r").await?;
            if let Some(version) = &image.version {
                console.wait(scene, version).await?;
            }
            console.wait(scene, "story=demo").await?;
            console.wait(scene, SHELL_PROMPT).await?;
            console.quote(scene, &["cat", "VERSION=", "console=", ":~#"]);
            Ok(())
        })
        .await
}

async fn measure(narrator: &mut Narrator, board: &Board) -> Result<(), Failure> {
    let step = ("measure", "Read voltage and current");
    narrator
        .step(step, SHORT, async |scene| {
            let reading = read(board).await?;
            scene.tell(format!(
                "{:.2} V  {:.3} A  {:.2} W",
                reading.voltage,
                reading.current,
                reading.apparent_power()
            ));
            scene.record("voltage", reading.voltage);
            scene.record("current", reading.current);
            Ok(())
        })
        .await
}

async fn switch_off(narrator: &mut Narrator, board: &Board) -> Result<(), Failure> {
    narrator
        .step(("power-off", "Power off"), SHORT, async |scene| {
            board.power.off().await?;
            let reading = read(board).await?;
            scene.tell(format!(
                "{:.2} V  {:.3} A",
                reading.voltage, reading.current
            ));
            Ok(())
        })
        .await
}

async fn read(board: &Board) -> Result<PowerReading, CliError> {
    let mut readings = board.power.read().await?;
    let reading = readings.next().await;
    Ok(reading.ok_or_else(|| CliError::new("the power driver measured nothing"))??)
}

// === impl Said ===

impl Said {
    fn lock(&self) -> MutexGuard<'_, (String, Option<ProgressBar>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lock().0.clone()
    }

    fn add(&self, bytes: &[u8]) {
        let mut said = self.lock();
        said.0.push_str(&String::from_utf8_lossy(bytes));
        if let Some(bar) = &said.1 {
            bar.set_message(last_line(&said.0));
        }
    }
}

// === impl Serial ===

impl Serial {
    fn new(stream: ByteStream) -> Self {
        let said = Arc::new(Said::default());
        let heard = Arc::clone(&said);
        let reader = stream.reader.inspect(move |chunk| {
            if let Ok(bytes) = chunk {
                heard.add(bytes);
            }
        });
        let stream = ByteStream::new(reader, stream.writer);
        Self {
            console: Console::new(stream),
            said,
            shown: 0,
        }
    }

    async fn send(&mut self, text: &'static str) -> Result<(), CliError> {
        self.console.send(text).await.map_err(explain)
    }

    /// Waits until the console says `wanted`, or something that means it never will.
    async fn wait(&mut self, scene: &Scene, wanted: &str) -> Result<(), CliError> {
        self.said.lock().1 = Some(scene.bar());
        let patterns: Vec<_> = std::iter::once(wanted)
            .chain(TROUBLE)
            .map(Pattern::from)
            .collect();
        match self.console.expect_any(&patterns, PATIENCE).await {
            Ok((0, _)) => Ok(()),
            Ok((_, trouble)) => Err(CliError::new(format!(
                "the board said `{}`",
                trouble.text()
            ))),
            Err(ConsoleError::Timeout { .. }) => Err(CliError::new(format!(
                "the console did not say `{}` within {} s",
                wanted.trim(),
                PATIENCE.as_secs()
            ))),
            Err(error) => Err(explain(error)),
        }
    }

    /// Shows the lines with one of `words` in them that were said since the last time.
    fn quote(&mut self, scene: &Scene, words: &[&str]) {
        let text = self.said.text();
        scene.quote(excerpt(&text[self.shown..], words));
        self.shown = text.len();
    }
}

/// The reason alone: the story shows the transcript itself.
fn explain(error: ConsoleError) -> CliError {
    CliError::new(match error {
        ConsoleError::Ended { .. } => "the console ended".to_owned(),
        ConsoleError::Lost { source, .. } => format!("the console was lost: {source}"),
        other => other.to_string(),
    })
}

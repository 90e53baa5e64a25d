//! `j` as a program against a session in this process.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use jmp_client::{LocalRecords, LocalSession};
use jmp_driver::{
    ByteStream, Driver, Error, Interface, NodeSpec, OpenContext, Origin, Result, interface,
};
use jmp_exporter::{Session, SessionOptions};
use serde_json::{Value, json};

/// Something that no client type knows.
#[interface(client = "example.client.LampClient")]
pub trait Lamp: Send + Sync + 'static {
    /// Set the brightness.
    async fn set(&self, percent: u8) -> Result<u8>;

    /// Say something back.
    async fn say(&self, word: String) -> Result<String>;

    /// Fail.
    async fn fail(&self) -> Result<()>;

    /// Wait for ever.
    async fn wait(&self) -> Result<()>;

    /// All levels.
    fn levels(&self) -> impl futures::Stream<Item = Result<u8>> + Send;

    /// Talk to the bulb.
    #[stream]
    async fn connect(&self) -> Result<ByteStream>;
}

struct Bulb;

impl Lamp for Bulb {
    async fn set(&self, percent: u8) -> Result<u8> {
        Ok(percent)
    }

    async fn say(&self, word: String) -> Result<String> {
        Ok(word)
    }

    async fn fail(&self) -> Result<()> {
        Err(Error::other("the filament is broken"))
    }

    async fn wait(&self) -> Result<()> {
        std::future::pending().await
    }

    fn levels(&self) -> impl futures::Stream<Item = Result<u8>> + Send {
        futures::stream::iter([Ok(1), Ok(2)])
    }

    async fn connect(&self) -> Result<ByteStream> {
        Ok(ByteStream::echo(4))
    }
}

impl Driver for Bulb {
    const TYPES: &'static [&'static str] = &["example.driver.Bulb"];
    const SUMMARY: &'static str = "A light bulb";
    type Config = Value;

    async fn open(_: Value, _: OpenContext) -> Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![lamp_interface()]
    }
}

const MOCK_POWER: &str = "jumpstarter_driver_power.driver.MockPower";

fn device(type_name: &str, description: Option<&str>, help: &[(&str, &str)]) -> NodeSpec {
    let help = help
        .iter()
        .map(|(name, text)| ((*name).into(), (*text).into()));
    NodeSpec::Driver {
        type_name: type_name.into(),
        config: json!({}),
        description: description.map(Into::into),
        methods_description: help.collect(),
        children: Vec::new(),
    }
}

fn group(description: Option<&str>, children: Vec<(&str, NodeSpec)>) -> NodeSpec {
    NodeSpec::Group {
        description: description.map(Into::into),
        children: children
            .into_iter()
            .map(|(name, child)| (name.to_owned(), child))
            .collect(),
    }
}

/// The lab of all tests.
fn lab() -> NodeSpec {
    let p1 = device(MOCK_POWER, Some("The left socket"), &[("on", "Light!")]);
    group(
        None,
        vec![
            ("power", device(MOCK_POWER, None, &[])),
            ("lamp", device("example.driver.Bulb", None, &[])),
            ("nested", group(None, vec![("p1", p1)])),
        ],
    )
}

struct Lab {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.runtime.block_on(self.session.close());
    }
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_jmp");
        std::os::unix::fs::symlink(program, directory.path().join("j")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let session = runtime.block_on(async {
            let mut registry = driver_all::registry();
            registry.add::<Bulb>();
            let session = Session::open(&registry, &lab(), SessionOptions::default())
                .await
                .unwrap();
            let socket = directory.path().join("socket");
            session.serve_unix(&socket, Origin::Client).unwrap();
            session.start_local();
            session
        });
        Self {
            directory,
            runtime,
            session,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `j` with the session and nothing else of this environment.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(self.path("j"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("JUMPSTARTER_HOST", self.path("socket"))
            .stdin(Stdio::null());
        command
    }

    fn j(&self, line: &str) -> (i32, String, String) {
        ended(self.command(line).output().unwrap())
    }

    /// Standard output of a command that must succeed without a word on standard error.
    fn shown(&self, line: &str) -> String {
        let (code, stdout, stderr) = self.j(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        stdout
    }

    fn complete(&self, line: &str, at: &str) -> Vec<String> {
        let mut command = self.command("");
        command
            .env("_J_COMPLETE", "bash_complete")
            .env("COMP_WORDS", line)
            .env("COMP_CWORD", at);
        let (code, stdout, stderr) = ended(command.output().unwrap());
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        stdout.lines().map(str::to_owned).collect()
    }
}

fn ended(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

const ROOT_HELP: &str = "\
Usage: j [OPTIONS] COMMAND [ARGS]...

  Generic composite device

Options:
  --log-level LEVEL    Show log lines of this program.
  -o, --output FORMAT  Print data as json, yaml, name or text.
  --version            Show the version and exit.
  --help               Show this message and exit.

Commands:
  lamp    Driver of unknown client class example.client.LampClient
  nested  Generic composite device
  power   Generic power

Session:
  call     Call a method of any device, named by its path
  logs     Show the log of the session
  methods  List the methods of any device, named by its path
  stream   Open a byte stream of any device, named by its path
";

const POWER_HELP: &str = "\
Usage: j nested p1 [OPTIONS] COMMAND [ARGS]...

  The left socket

Options:
  --log-level LEVEL    Show log lines of this program.
  -o, --output FORMAT  Print data as json, yaml, name or text.
  --help               Show this message and exit.

Commands:
  cycle   Power cycle
  off     Power off
  on      Light!
  read    Read power measurements
  rescue  Bring back a device that does not react
";

const CYCLE_HELP: &str = "\
Usage: j power cycle [OPTIONS]

  Power cycle

Options:
  -w, --wait <INTEGER>   Seconds between off and on [default: 2]
  -o, --output <FORMAT>  Print data as json, yaml, name or text.
      --help             Show this message and exit.

Examples:
  j power cycle --wait 5
";

const LAMP_HELP: &str = "\
Usage: j lamp [OPTIONS] COMMAND [ARGS]...

  Driver of unknown client class example.client.LampClient

Options:
  --log-level LEVEL    Show log lines of this program.
  -o, --output FORMAT  Print data as json, yaml, name or text.
  --help               Show this message and exit.

Commands:
  call     Call a method and print its result
  methods  List the methods with their arguments
  stream   Connect standard input and output to a byte stream

Methods:
";

#[test]
fn help_of_every_kind() {
    let lab = Lab::new();
    assert_eq!(lab.shown("--help"), ROOT_HELP);
    assert_eq!(lab.shown("nested p1 --help"), POWER_HELP);
    assert_eq!(lab.shown("power cycle --help"), CYCLE_HELP);
    assert!(lab.shown("nested p1 on --help").contains("  Light!\n"));
    let lamp = lab.shown("lamp --help");
    let methods = lamp.strip_prefix(LAMP_HELP).expect(&lamp);
    assert!(methods.starts_with("  set(percent: "), "{methods}");
    assert!(methods.contains("  Set the brightness."), "{methods}");
    // A group alone: the same text, on standard error, and a failure.
    for line in ["", "nested p1"] {
        let (code, stdout, stderr) = lab.j(line);
        let help = if line.is_empty() {
            ROOT_HELP
        } else {
            POWER_HELP
        };
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (1, "", help));
    }
}

#[test]
fn commands_of_devices_run() {
    let lab = Lab::new();
    assert_eq!(lab.shown("power on"), "ok\n");
    assert_eq!(lab.shown("nested p1 off"), "ok\n");
    let readings = lab.shown("power read -n 2 --interval 0");
    assert_eq!(readings.lines().count(), 4);
    assert!(readings.starts_with("voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA\n"));
    let json = lab.shown("power read -o json");
    let reading: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        reading,
        json!({"voltage": 5.0, "current": 2.0, "apparent_power": 10.0})
    );
    let log = lab.shown("logs");
    assert!(
        log.contains("INFO     driver [driver.MockPower] power on\n"),
        "{log}"
    );
    assert!(lab.shown("--version").starts_with("j, version "));
}

#[test]
fn command_lines_that_make_no_sense() {
    let lab = Lab::new();
    let (code, stdout, stderr) = lab.j("power onn");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "Usage: j power [OPTIONS] COMMAND [ARGS]...\nTry 'j power --help' for help.\n\n\
         Error: No such command 'onn'. Did you mean 'on'?\n"
    );
    for (line, message) in [
        (
            "pwer",
            "Error: No such command 'pwer'. Did you mean 'power'?\n",
        ),
        (
            "nested p2",
            "Error: No such command 'p2'. Did you mean 'p1'?\n",
        ),
        ("power bogus", "Error: No such command 'bogus'.\n"),
        (
            "power on now",
            "Error: Got unexpected extra argument (now)\n",
        ),
        ("power cycle --wait x", "is not a valid integer.\n"),
        ("--bogus", "Error: No such option: --bogus\n"),
        ("call lamp", "Error: Missing argument 'METHOD'.\n"),
        ("call", "Error: Missing argument 'DEVICE'.\n"),
    ] {
        let (code, stdout, stderr) = lab.j(line);
        assert_eq!((code, stdout.as_str()), (1, ""), "{line}");
        assert!(stderr.starts_with("Usage: j"), "{stderr}");
        assert!(stderr.ends_with(message), "{line}: {stderr}");
    }
    let (code, _, stderr) = lab.j("call lmp set 5");
    assert_eq!(code, 1);
    assert!(stderr.contains("there is no device `lmp`"), "{stderr}");
}

#[test]
fn classes_that_nobody_knows() {
    let lab = Lab::new();
    assert_eq!(lab.shown("lamp call set 5"), "5\n");
    assert_eq!(lab.shown("lamp call say hello"), "\"hello\"\n");
    assert_eq!(lab.shown("lamp call say \"5\""), "\"5\"\n");
    assert_eq!(lab.shown("-o name lamp call say hello"), "hello\n");
    assert_eq!(lab.shown("lamp call -o name say hello"), "hello\n");
    assert_eq!(lab.shown("lamp call levels"), "1\n2\n");
    assert_eq!(lab.shown("lamp -o yaml call levels"), "---\n1\n---\n2\n");
    assert_eq!(lab.shown("call nested.p1 on"), "");
    assert_eq!(lab.shown("power -o json call on"), "null\n");
    let methods: Value = serde_json::from_str(&lab.shown("lamp methods -o json")).unwrap();
    assert_eq!(methods[0]["name"], "set");
    assert_eq!(methods[0]["arguments"][0]["name"], "percent");
    let (code, _, stderr) = lab.j("lamp call fail");
    let text = "Error: DriverCall 'fail' failed with gRPC UNKNOWN: the filament is broken\n";
    assert_eq!((code, stderr.as_str()), (1, text));
    let (code, _, stderr) = lab.j("lamp call connect");
    assert_eq!(code, 1);
    assert!(stderr.contains("use `stream connect`"), "{stderr}");
}

#[test]
fn byte_streams_join_standard_input_and_output() {
    use std::io::Write;
    let lab = Lab::new();
    let mut child = lab
        .command("lamp stream")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "bright\n".repeat(50_000);
    let mut stdin = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(sent.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(ended(output), (0, text, String::new()));
}

#[test]
fn devices_as_data() {
    let lab = Lab::new();
    assert_eq!(lab.shown("-o name"), "power\nlamp\nnested\nnested.p1\n");
    let devices: Value = serde_json::from_str(&lab.shown("-o json")).unwrap();
    assert_eq!(devices[3]["description"], "The left socket");
    assert_eq!(lab.shown("nested -o name"), "nested.p1\n");
}

#[test]
fn the_allow_list_hides_and_explains() {
    let lab = Lab::new();
    let allow = ("JMP_DRIVERS_ALLOW", "jumpstarter_driver_power.*");
    let run = |line: &str, quiet: bool| {
        let mut command = lab.command(line);
        command.env(allow.0, allow.1);
        if quiet {
            command.env("_JMP_SUPPRESS_DRIVER_WARNINGS", "1");
        }
        ended(command.output().unwrap())
    };
    let (code, stdout, stderr) = run("--help", false);
    assert_eq!(code, 0);
    assert!(
        !stdout.contains("lamp") && stdout.contains("nested"),
        "{stdout}"
    );
    assert!(stderr.contains("`example.client.LampClient`"), "{stderr}");
    assert_eq!(run("--help", true).2, "");
    assert_eq!(
        run("nested p1 on", false),
        (0, "ok\n".into(), String::new())
    );
    let (code, stdout, stderr) = run("lamp call set 5", false);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("JMP_DRIVERS_ALLOW"), "{stderr}");
}

#[test]
fn completion_comes_from_the_session() {
    let lab = Lab::new();
    let root = ["plain,lamp", "plain,nested", "plain,power"];
    assert_eq!(lab.complete("j ", "1")[..3], root);
    assert_eq!(lab.complete("j p", "1"), ["plain,power"]);
    assert_eq!(
        lab.complete("j nested p1 o", "3"),
        ["plain,off", "plain,on"]
    );
    assert_eq!(lab.complete("j power cycle --w", "3"), ["plain,--wait"]);
    assert_eq!(lab.complete("j -o j", "2"), ["plain,json"]);
    assert_eq!(
        lab.complete("j lamp call s", "3"),
        ["plain,set", "plain,say"]
    );
    assert_eq!(lab.complete("j stream lamp ", "3"), ["plain,connect"]);
    assert_eq!(lab.complete("j nosuch x", "2"), [""; 0]);
    let mut nowhere = lab.command("");
    nowhere
        .env("JUMPSTARTER_HOST", lab.path("nothing"))
        .env("_J_COMPLETE", "zsh_complete")
        .env("COMP_WORDS", "j p")
        .env("COMP_CWORD", "1");
    let silent = (0, String::new(), String::new());
    assert_eq!(ended(nowhere.output().unwrap()), silent);
    for shell in ["bash", "zsh", "fish"] {
        let mut command = lab.command("");
        command.env("_J_COMPLETE", format!("{shell}_source"));
        assert!(ended(command.output().unwrap()).1.contains("_j_complete"));
    }
}

#[test]
fn sessions_are_found() {
    let lab = Lab::new();
    let (code, _, stderr) = ended(
        lab.command("power on")
            .env_remove("JUMPSTARTER_HOST")
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("Error: no session to talk to"),
        "{stderr}"
    );
    let (code, _, stderr) = ended(
        lab.command("power on")
            .env("JUMPSTARTER_HOST", lab.path("nothing"))
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot reach the exporter"), "{stderr}");
    std::fs::create_dir(lab.path("run")).unwrap();
    let records = LocalRecords::at(lab.path("run").join("jumpstarter"));
    let session = LocalSession::of_this_process(lab.path("socket"), "lab", "/lab.yaml").unwrap();
    records.publish(&session).unwrap();
    let (code, stdout, _) = ended(
        lab.command("power on")
            .env_remove("JUMPSTARTER_HOST")
            .output()
            .unwrap(),
    );
    assert_eq!((code, stdout.as_str()), (0, "ok\n"));
}

#[test]
fn interruption_ends_with_two() {
    let lab = Lab::new();
    for (signal, notice) in [
        ("INT", "SIGINT pressed, terminating\n"),
        ("TERM", "SIGTERM received, terminating\n"),
    ] {
        let child = lab
            .command("logs --follow")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it catches the signal: bit of SIGINT in the mask of caught ones.
        let status = format!("/proc/{}/status", child.id());
        let deadline = Instant::now() + Duration::from_secs(30);
        let catches = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
            mask & (1 << 1) != 0 && mask & (1 << 14) != 0
        };
        while !catches() {
            assert!(Instant::now() < deadline, "it never caught signals");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let (code, _, stderr) = ended(child.wait_with_output().unwrap());
        assert_eq!((code, stderr.as_str()), (2, notice));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let lab = Lab::new();
    let mut child = lab
        .command("power read -n 0 --interval 0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(ended(child.wait_with_output().unwrap()).0, 0);
}

//! The distributed mode: a controller with its router, and `jmp-bench-lab` as everybody else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::processes::memory;
use crate::Outcome;
use crate::environment::captured;

/// How long a program may take to say that it is ready.
const START: Duration = Duration::from_secs(60);
/// How long a program may take to end.
const END: Duration = Duration::from_secs(20);

/// A controller with its router, each a process.
pub struct Lab {
    jmp: PathBuf,
    player: PathBuf,
    folder: PathBuf,
    ports: (u16, u16),
    controller: Option<Child>,
}

/// A program of the lab that stays until its input is closed; it says `NAME VALUE` lines.
pub struct Player {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<(String, f64)>,
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", what.display())
}

fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.port())
}

// === impl Lab ===

impl Lab {
    /// Starts one whose store holds that; `seed` are options of `jmp-bench-lab seed`.
    pub fn start(jmp: &Path, player: &Path, folder: &Path, seed: &[&str]) -> Outcome<Self> {
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut lab = Self {
            jmp: jmp.into(),
            player: player.into(),
            folder: folder.into(),
            ports: (free_port()?, free_port()?),
            controller: None,
        };
        if !seed.is_empty() {
            let mut command = Command::new(player);
            command.arg("seed").arg("--data").arg(lab.data()).args(seed);
            captured(&mut command)?;
        }
        lab.start_controller()?;
        Ok(lab)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    /// Starts the controller, and returns when it answers.
    pub fn start_controller(&mut self) -> Outcome {
        let log = fs::File::create(self.folder.join("log")).map_err(failed(&self.folder))?;
        let router = format!("127.0.0.1:{}", self.ports.1);
        let mut child = Command::new(&self.jmp)
            .args(["controller", "run", "--login-listen", "none"])
            .args(["--metrics-listen", "none", "--router-listen", &router])
            .args(["--listen", &self.endpoint(), "--data-directory"])
            .arg(self.data())
            .env("HOME", &self.folder)
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed(&self.jmp))?;
        let output = child.stdout.take().ok_or("no output")?;
        let (sender, first) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // After the first line nobody listens any more.
                let _ = sender.send(line);
            }
        });
        self.controller = Some(child);
        first.recv_timeout(START).map(drop).map_err(|_| {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            format!("the controller did not start: {}", log.trim())
        })
    }

    /// `kill -9` for the controller; its router goes on.
    pub fn kill_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
    }

    fn controller(&self) -> Outcome<u32> {
        Ok(self.controller.as_ref().ok_or("no controller")?.id())
    }

    fn router(&self) -> Outcome<u32> {
        let path = self.data().join("router.pid");
        let deadline = Instant::now() + START;
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            match text.trim().parse() {
                Ok(process) => return Ok(process),
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(_) => return Err("the router did not start".into()),
            }
        }
    }

    /// Resident memory of controller and router, MiB.
    pub fn memory(&self) -> Outcome<(f64, f64)> {
        Ok((memory(self.controller()?)?, memory(self.router()?)?))
    }

    /// Processor time of the controller so far, s.
    pub fn processor_time(&self) -> Outcome<f64> {
        processor_time(self.controller()?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.player);
        let (first, rest) = arguments.split_first().unwrap_or((&"", &[]));
        command
            .args([first, "--endpoint", &self.endpoint() as &str, "--data"])
            .arg(self.data())
            .args(rest);
        command
    }

    /// Runs a command of `jmp-bench-lab` to its end; what it said.
    pub fn play(&self, arguments: &[&str]) -> Outcome<BTreeMap<String, f64>> {
        let text = captured(&mut self.command(arguments))?;
        Ok(text.lines().filter_map(said).collect())
    }

    /// Runs one that says `value N`.
    pub fn value(&self, arguments: &[&str]) -> Outcome<f64> {
        let said = self.play(arguments)?;
        said.get("value").copied().ok_or("it said no value".into())
    }

    /// Starts a command that stays.
    pub fn player(&self, arguments: &[&str]) -> Outcome<Player> {
        let log = self.folder.join("player.log");
        let log = fs::File::create(&log).map_err(failed(&log))?;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed(&self.player))?;
        let output = child.stdout.take().ok_or("no output")?;
        let (sender, received) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines.filter_map(|line| said(&line)) {
                let _ = sender.send(line);
            }
        });
        let input = child.stdin.take();
        Ok(Player {
            child,
            input,
            said: received,
        })
    }

    /// A configuration file of the client.
    pub fn client_config(&self) -> Outcome<PathBuf> {
        let text = captured(&mut self.command(&["token", "client", "0"]))?;
        let word = |name: &str| {
            let mut words = text.lines().filter_map(|line| line.split_once(' '));
            let found = words.find(|(key, _)| *key == name);
            found.map(|(_, value)| value).unwrap_or_default()
        };
        let config = format!(
            "apiVersion: jumpstarter.dev/v1alpha1\nkind: ClientConfig\n\
             metadata: {{namespace: default, name: {}}}\n\
             endpoint: {}\ntls: {{ca: {}}}\ntoken: {}\ndrivers: {{unsafe: true}}\n",
            word("name"),
            self.endpoint(),
            word("ca"),
            word("token"),
        );
        let path = self.folder.join("client.yaml");
        fs::write(&path, config).map_err(failed(&path))?;
        Ok(path)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let router = self.router();
        if let Some(mut controller) = self.controller.take() {
            end(&mut controller, "-TERM");
        }
        // It ends with its controller, unless that was killed.
        if let Ok(router) = router
            && Path::new(&format!("/proc/{router}")).exists()
        {
            let _ = Command::new("kill").arg(router.to_string()).status();
        }
    }
}

// === impl Player ===

impl Player {
    /// Waits until it says that word; the number with it.
    pub fn wait_for(&self, word: &str, limit: Duration) -> Outcome<f64> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((name, value)) if name == word => return Ok(value),
                Ok(_) => {}
                Err(_) => return Err(format!("it did not say `{word}` in {limit:?}")),
            }
        }
    }

    /// Resident memory, MiB.
    pub fn memory(&self) -> Outcome<f64> {
        memory(self.child.id())
    }

    /// Closes its input; it goes on to its end, and says more.
    pub fn release(&mut self) {
        drop(self.input.take());
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.release();
        end(&mut self.child, "-KILL");
    }
}

/// Waits for the end of a program that has been told; then it is ended.
fn end(child: &mut Child, signal: &str) {
    if signal == "-TERM" {
        let _ = Command::new("kill").arg(child.id().to_string()).status();
    }
    let deadline = Instant::now() + END;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn said(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.split_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

/// User and system time of a process, s.
fn processor_time(process: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))
        .map_err(|error| format!("process {process} is gone: {error}"))?;
    // The name, which may hold anything, is in parentheses; the times are the 14th and 15th word.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse().ok())
        .collect();
    match ticks.as_slice() {
        // What the kernel shows is hundredths of a second on every Linux.
        [user, system] => Ok((user + system) / 100.0),
        _ => Err(format!("process {process}: no times")),
    }
}

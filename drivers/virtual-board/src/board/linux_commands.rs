//! The commands of the system's shell.

use std::time::Duration;

use super::digest::DigestJob;
use super::image::HEADER_LENGTH;
use super::kernel_log::{BUILD, RELEASE};
use super::linux::Linux;
use super::stage::Context;

const COMMANDS: &str = "cat dmesg echo exit false help hostname id ls poweroff pwd reboot sha256sum sleep sync true uname uptime";
const NOT_FOUND: &str = "No such file or directory";
const INPUT_OUTPUT: &str = "Input/output error";
/// Longest `sleep`, in seconds: a day.
const LONGEST_SLEEP: f64 = 86_400.0;

impl Linux {
    /// Runs one command, which is not empty, and keeps its status. Commands
    /// that take time leave a state behind that ends later.
    pub(super) fn command(&mut self, words: &[&str], context: &mut Context<'_>) {
        let status = match words {
            ["uname", options @ ..] => self.uname(options, context),
            ["cat", paths @ ..] if !paths.is_empty() => self.cat(paths, context),
            ["echo", "-n", arguments @ ..] => {
                context.console.text(&arguments.join(" "));
                0
            }
            ["echo", arguments @ ..] => say(&arguments.join(" "), context),
            ["ls", paths @ ..] => self.ls(paths, context),
            ["hostname"] => say(&self.hostname, context),
            ["pwd"] => say("/root", context),
            ["id"] => say("uid=0(root) gid=0(root) groups=0(root)", context),
            ["uptime"] => say(&format!(" up {:.0} seconds", self.uptime(context)), context),
            ["help"] => say(
                &format!("Commands of this simulated system:\n{COMMANDS}"),
                context,
            ),
            ["dmesg"] => say(&self.kernel_log.join("\n"), context),
            ["sha256sum", path] => return self.sha256sum(path, context),
            ["sleep", seconds] => match seconds.parse::<f64>() {
                Ok(seconds) if seconds >= 0.0 => {
                    return self
                        .sleep(Duration::from_secs_f64(seconds.min(LONGEST_SLEEP)), context);
                }
                _ => fail(&format!("sleep: invalid number '{seconds}'"), context),
            },
            ["poweroff" | "halt"] => return self.shut_down(false, context),
            ["reboot"] => return self.shut_down(true, context),
            ["exit" | "logout", ..] => return self.log_out(context),
            ["true" | "sync" | ":"] => 0,
            ["false"] => 1,
            [name, ..] if COMMANDS.split(' ').any(|known| known == *name) => fail(
                &format!("{name}: this use is not simulated on this board"),
                context,
            ),
            [name, ..] => {
                context.console.line(&format!("sh: {name}: not found"));
                127
            }
            [] => 0,
        };
        self.queue.status = status;
    }

    fn uname(&self, options: &[&str], context: &mut Context<'_>) -> u8 {
        let hostname = &self.hostname;
        match options {
            [] | ["-s"] => say("Linux", context),
            ["-a"] => say(
                &format!("Linux {hostname} {RELEASE} {BUILD} aarch64 GNU/Linux"),
                context,
            ),
            ["-r"] => say(RELEASE, context),
            ["-n"] => say(hostname, context),
            ["-m"] => say("aarch64", context),
            ["-v"] => say(BUILD, context),
            [option, ..] => fail(&format!("uname: unrecognized option: {option}"), context),
        }
    }

    fn cat(&self, paths: &[&str], context: &mut Context<'_>) -> u8 {
        let mut status = 0;
        for path in paths {
            match self.file(path, context) {
                Ok(text) => context.console.line(&text),
                Err(reason) => {
                    status = fail(&format!("cat: can't open '{path}': {reason}"), context)
                }
            }
        }
        status
    }

    /// The text of a file without its last line feed.
    fn file(&self, path: &str, context: &Context<'_>) -> Result<String, &'static str> {
        let on_storage = |text: String| {
            if self.root_is_readable(context) {
                Ok(text)
            } else {
                Err(INPUT_OUTPUT)
            }
        };
        let version = &self.handover.header.version;
        match path {
            "/proc/cmdline" => Ok(self.handover.command_line.clone()),
            "/proc/uptime" => {
                let uptime = self.uptime(context);
                Ok(format!("{uptime:.2} {:.2}", uptime * 3.6))
            }
            "/proc/version" => Ok(format!("Linux version {RELEASE} (builder@jmp) {BUILD}")),
            "/etc/hostname" => on_storage(self.hostname.clone()),
            "/etc/os-release" => on_storage(format!(
                "NAME=\"Virtual Board Linux\"\nID=virtual-board\nVERSION=\"{version}\"\n\
                 VERSION_ID=\"{version}\"\nPRETTY_NAME=\"Virtual Board Linux {version}\""
            )),
            _ if path.starts_with("/proc") || self.root_is_readable(context) => Err(NOT_FOUND),
            _ => Err(INPUT_OUTPUT),
        }
    }

    fn ls(&self, paths: &[&str], context: &mut Context<'_>) -> u8 {
        let path = match paths {
            [] => "/root",
            [path] => path,
            _ => return fail("ls: this use is not simulated on this board", context),
        };
        let names = match path.trim_end_matches('/') {
            "" => "bin   boot  dev   etc   lib   proc  root  sbin  sys   tmp   usr   var",
            "/dev" => "console    mmcblk0    mmcblk0p1  null       ttyS0",
            "/proc" => "cmdline  uptime   version",
            "/etc" => "hostname    os-release",
            "/root" => "",
            _ => return fail(&format!("ls: {path}: {NOT_FOUND}"), context),
        };
        let in_memory = path.starts_with("/dev") || path.starts_with("/proc");
        if !in_memory && !self.root_is_readable(context) {
            return fail(&format!("ls: {path}: {INPUT_OUTPUT}"), context);
        }
        if !names.is_empty() {
            context.console.line(names);
        }
        0
    }

    fn sha256sum(&mut self, path: &str, context: &mut Context<'_>) {
        let start = HEADER_LENGTH as u64;
        let payload_end = start.saturating_add(self.handover.header.payload_length);
        let range = match path {
            "/dev/mmcblk0" => 0..context.storage.length_as_board().unwrap_or(0),
            "/dev/mmcblk0p1" => start..payload_end,
            _ => {
                let reason = self
                    .file(path, context)
                    .err()
                    .unwrap_or("this use is not simulated on this board");
                self.queue.status = fail(
                    &format!("sha256sum: can't open '{path}': {reason}"),
                    context,
                );
                return;
            }
        };
        if context.storage.length_as_board().is_err() {
            self.queue.status = fail(
                &format!("sha256sum: can't open '{path}': {INPUT_OUTPUT}"),
                context,
            );
            return;
        }
        self.hash(
            DigestJob::new(context.storage, range.start, range.end),
            path,
            context,
        );
    }
}

fn say(text: &str, context: &mut Context<'_>) -> u8 {
    context.console.line(text);
    0
}

fn fail(text: &str, context: &mut Context<'_>) -> u8 {
    context.console.line(text);
    1
}

//! Running the steps of a test run: output passed through and counted, times kept, a table at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Test counts read from a runner's own summary lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed, expected failures included.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that the runner was told not to run; always shown.
    pub ignored: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Adds up the summaries of libtest, nextest and pytest found in `line`.
    pub fn read(&mut self, line: &str) {
        let plain = without_colours(line);
        let text = plain.trim();
        if text.starts_with("test result: ") {
            self.add(Self {
                passed: before(text, "passed"),
                failed: before(text, "failed"),
                ignored: before(text, "ignored"),
            });
        } else if text.starts_with("Summary [") {
            self.add(Self {
                passed: before(text, "passed"),
                failed: before(text, "failed") + before(text, "timed") + before(text, "exec"),
                ignored: before(text, "skipped"),
            });
        } else if pytest_summary(text) {
            self.add(Self {
                passed: before(text, "passed") + before(text, "xfailed"),
                failed: before(text, "failed")
                    + before(text, "error")
                    + before(text, "errors")
                    + before(text, "xpassed"),
                ignored: before(text, "skipped") + before(text, "deselected"),
            });
        }
    }
}

/// Whether a line is pytest's last one, such as `1 failed, 2 passed in 3.21s (0:01:02)`.
fn pytest_summary(text: &str) -> bool {
    let Some((counts, time)) = text.split_once(" in ") else {
        return false;
    };
    let seconds = time.split('s').next().unwrap_or_default();
    seconds.parse::<f64>().is_ok()
        && counts.split(", ").all(|c| {
            c.split(' ')
                .next()
                .is_some_and(|n| n.parse::<u64>().is_ok())
        })
}

/// The number that stands before a word, 0 when the word is absent.
fn before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// One line of the summary table.
struct Row {
    name: String,
    time: Duration,
    counts: Counts,
    problem: Option<String>,
}

/// The steps that have run, in order.
#[derive(Default)]
pub struct Steps {
    rows: Vec<Row>,
    left_out: Vec<String>,
}

impl Steps {
    /// Runs a program as a step; its output is shown as it comes.
    pub fn command(&mut self, name: &str, command: &mut Command) -> bool {
        self.task(name, || {
            let (status, counts) = watched(command)?;
            Ok((
                counts,
                (!status).then(|| format!("`{}` failed", shown(command))),
            ))
        })
    }

    /// Runs a function as a step; the second value of its result is a problem.
    pub fn task(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Outcome<(Counts, Option<String>)>,
    ) -> bool {
        println!("\n=== {name}");
        let begin = Instant::now();
        let (counts, problem) = work().unwrap_or_else(|message| (Counts::default(), Some(message)));
        if let Some(problem) = &problem {
            println!("=== {name}: {problem}");
        }
        let good = problem.is_none();
        self.rows.push(Row {
            name: name.into(),
            time: begin.elapsed(),
            counts,
            problem,
        });
        good
    }

    /// Notes that a step was left out on purpose, so that nobody has to guess.
    pub fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push(format!("{name}: {why}"));
    }

    /// Prints the table; the last line is `N passed, N failed`. A failed step without failed tests counts as one.
    ///
    /// # Errors
    /// When a step failed.
    pub fn finish(self) -> Outcome {
        let mut total = Counts::default();
        println!(
            "\n{:<44} {:>8} {:>7} {:>7} {:>8}  result",
            "step", "time", "passed", "failed", "ignored"
        );
        for row in &self.rows {
            let mut counts = row.counts;
            if row.problem.is_some() && counts.failed == 0 {
                counts.failed = 1;
            } else if row.problem.is_none() && counts == Counts::default() {
                counts.passed = 1;
            }
            total.add(counts);
            let result = row.problem.as_deref().map_or("ok", |_| "FAILED");
            let seconds = format!("{:.1} s", row.time.as_secs_f64());
            println!(
                "{:<44} {seconds:>8} {:>7} {:>7} {:>8}  {result}",
                row.name, counts.passed, counts.failed, counts.ignored
            );
        }
        for left_out in &self.left_out {
            println!("left out: {left_out}");
        }
        for row in self.rows.iter().filter(|row| row.problem.is_some()) {
            println!(
                "failed: {}: {}",
                row.name,
                row.problem.as_deref().unwrap_or_default()
            );
        }
        let ignored = if total.ignored > 0 {
            format!(", {} ignored", total.ignored)
        } else {
            String::new()
        };
        println!("{} passed, {} failed{ignored}", total.passed, total.failed);
        if total.failed > 0 {
            Err("not everything passed; see the table above".into())
        } else {
            Ok(())
        }
    }
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a program with its output passed through; a failure is an error.
pub fn must_succeed(command: &mut Command) -> Outcome {
    let status = command
        .status()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` failed ({status})", shown(command)))
    }
}

/// Runs a program, shows both its outputs and reads test summaries from them.
fn watched(command: &mut Command) -> Outcome<(bool, Counts)> {
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|error| format!("cannot run `{}`: {error}", shown(command)))?;
    let (sender, lines) = mpsc::channel();
    let streams: Vec<Box<dyn Read + Send>> = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut counts = Counts::default();
    let status = std::thread::scope(|scope| {
        for stream in streams {
            let sender = sender.clone();
            scope.spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut out = std::io::stdout().lock();
        for line in lines {
            let text = String::from_utf8_lossy(&line);
            counts.read(&text);
            // The terminal may be gone; the run still ends with its result.
            let _ = writeln!(out, "{text}");
        }
        child.wait()
    });
    let status = status.map_err(|error| format!("lost `{}`: {error}", shown(command)))?;
    Ok((status.success(), counts))
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counts(line: &str) -> (u64, u64, u64) {
        let mut counts = Counts::default();
        counts.read(line);
        (counts.passed, counts.failed, counts.ignored)
    }

    #[test]
    fn reads_the_summaries_of_three_runners() {
        assert_eq!(
            counts(
                "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.10s"
            ),
            (12, 1, 2)
        );
        assert_eq!(
            counts(
                "     Summary [   0.041s] 40 tests run: 38 passed (1 slow), 2 failed, 1 skipped"
            ),
            (38, 2, 1)
        );
        assert_eq!(
            counts("\u{1b}[32m130 passed\u{1b}[0m, 17 xfailed in 122.80s (0:02:02)"),
            (147, 0, 0)
        );
        assert_eq!(
            counts("1 failed, 130 passed, 17 xfailed, 2 errors in 2.80s"),
            (147, 3, 0)
        );
        assert_eq!(counts("the test passed in a hurry"), (0, 0, 0));
    }
}

//! Shows the story: step by step on a terminal or in a pipe, or as data at the end.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use super::console;
use super::story::Failure;
use crate::error::CliError;
use crate::output::{self, Format};

/// Columns of the titles.
const TITLE_WIDTH: usize = 46;
/// How often the running step is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Lines of the console that are shown when something fails.
const TRANSCRIPT: usize = 25;

/// Tells the steps one after the other.
pub struct Narrator {
    format: Option<Format>,
    colours: bool,
    /// Whether a person watches, so that things may move.
    live: bool,
    started: Instant,
    steps: Vec<Told>,
}

/// A step that is over.
struct Told {
    name: &'static str,
    title: &'static str,
    seconds: f64,
    error: Option<String>,
    details: Vec<String>,
    console: Vec<String>,
    data: Map<String, Value>,
}

/// What a running step uses to tell what happens.
pub struct Scene {
    bar: ProgressBar,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    details: Vec<String>,
    console: Vec<String>,
    data: Map<String, Value>,
}

/// How the story ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything worked and has ended.
    Done,
    /// Everything worked and the board stays.
    Kept,
    /// A step failed; the caller says which.
    Failed,
}

/// Meaning of a piece of text, and with it its colour.
#[derive(Debug, Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Strong,
    Quiet,
}

// === impl Narrator ===

impl Narrator {
    /// Tells in `format`, or for people.
    ///
    /// # Errors
    ///
    /// When the story cannot be told in that format.
    pub fn new(format: Option<Format>, no_colour: bool) -> Result<Self, CliError> {
        if format == Some(Format::Path) {
            return Err(CliError::usage(
                "`jmp demo` has no paths to print; use -o json, yaml or name",
            ));
        }
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal()
            && std::env::var("TERM").is_ok_and(|terminal| terminal != "dumb");
        let live = terminal && format.is_none();
        Ok(Self {
            format,
            colours: live && !no_colour && !set("NO_COLOR"),
            live,
            started: Instant::now(),
            steps: Vec::new(),
        })
    }

    /// Says what is about to happen.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn open(&self) -> Result<(), CliError> {
        let title = self.paint(Tone::Strong, "Jumpstarter demo");
        self.print(&format!(
            "\n {title}: a simulated board behind a real exporter, used through the client library\n\n"
        ))
    }

    /// Runs a step and tells it when it is over.
    ///
    /// # Errors
    ///
    /// The step's own, or that it took longer than `limit`.
    pub async fn step<T>(
        &mut self,
        (name, title): (&'static str, &'static str),
        limit: Duration,
        work: impl AsyncFnOnce(&Scene) -> Result<T, CliError>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let scene = Scene::new(self.live, self.colours, self.steps.len() + 1, title);
        let result = match tokio::time::timeout(limit, work(&scene)).await {
            Ok(result) => result,
            Err(_) => Err(CliError::new(format!(
                "it was not done after {} s",
                limit.as_secs()
            ))),
        };
        let notes = scene.end();
        self.steps.push(Told {
            name,
            title,
            seconds: started.elapsed().as_secs_f64(),
            error: result
                .as_ref()
                .err()
                .map(|error| error.message().to_owned()),
            details: notes.details,
            console: notes.console,
            data: notes.data,
        });
        if let Some(told) = self.steps.last() {
            self.print(&self.step_text(told))?;
        }
        result.map_err(|error| Failure::new(title, error))
    }

    /// Shows the end of what the console said, after a failure; the data of the failed step has all of it.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn transcript(&mut self, text: &str) -> Result<(), CliError> {
        let text = console::visible(text);
        let lines: Vec<_> = text.trim_end().lines().collect();
        if text.trim().is_empty() {
            return self.print("\n    The console said nothing.\n\n");
        }
        if let Some(failed) = self.steps.last_mut() {
            failed.console = lines.iter().map(|line| (*line).to_owned()).collect();
        }
        let first = lines.len().saturating_sub(TRANSCRIPT);
        let mut shown = match first {
            0 => "\n    Everything the console said:\n".to_owned(),
            _ => format!("\n    The last {TRANSCRIPT} lines of the console:\n"),
        };
        for line in &lines[first..] {
            shown.push_str(&self.console_line(line));
        }
        shown.push('\n');
        self.print(&shown)
    }

    /// Says how it ended; prints the data, where data was wanted.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn close(&self, ending: Ending) -> Result<(), CliError> {
        let seconds = self.started.elapsed().as_secs_f64();
        match self.format {
            Some(Format::Json) => return output::print(&output::json(&self.data(ending))),
            Some(Format::Yaml) => return output::print(&output::yaml(&self.data(ending))?),
            Some(_) => {
                let names = self.steps.iter().map(|step| format!("{}\n", step.name));
                return output::print(&names.collect::<String>());
            }
            None => {}
        }
        let count = self.steps.len();
        match ending {
            Ending::Failed => Ok(()),
            Ending::Done => {
                let done = self.paint(Tone::Good, "Done");
                let hint = self.paint(
                    Tone::Quiet,
                    "`jmp demo --keep` ends in a shell with the board.",
                );
                self.print(&format!(
                    "\n {done}: {count} steps in {seconds:.1} s, nothing is left running.\n {hint}\n\n"
                ))
            }
            Ending::Kept => self.print(&format!("\n {count} steps in {seconds:.1} s.\n\n")),
        }
    }

    fn data(&self, ending: Ending) -> Value {
        let steps: Vec<_> = self
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let mut told = json!({
                    "step": index + 1,
                    "name": step.name,
                    "title": step.title,
                    "result": if step.error.is_some() { "failed" } else { "ok" },
                    "seconds": round(step.seconds),
                });
                if let Some(error) = &step.error {
                    told["error"] = error.as_str().into();
                }
                if !step.console.is_empty() {
                    told["console"] = step.console.clone().into();
                }
                if !step.data.is_empty() {
                    told["data"] = step.data.clone().into();
                }
                told
            })
            .collect();
        json!({
            "result": if ending == Ending::Failed { "failed" } else { "ok" },
            "seconds": round(self.started.elapsed().as_secs_f64()),
            "steps": steps,
        })
    }

    fn step_text(&self, step: &Told) -> String {
        let (sign, tone) = match step.error {
            None => ("✓", Tone::Good),
            Some(_) => ("✗", Tone::Bad),
        };
        let padding = " ".repeat(TITLE_WIDTH.saturating_sub(step.title.chars().count()));
        let mut text = format!(
            " {} {} {}{padding} {}\n",
            self.paint(tone, sign),
            self.paint(Tone::Quiet, &format!("{:>2}", self.steps.len())),
            self.paint(Tone::Strong, step.title),
            self.paint(Tone::Quiet, &format!("{:>6.2} s", step.seconds)),
        );
        for line in &step.details {
            text.push_str(&format!("      {line}\n"));
        }
        for line in &step.console {
            text.push_str(&self.console_line(line));
        }
        if let Some(error) = &step.error {
            text.push_str(&format!("      {}\n", self.paint(Tone::Bad, error)));
        }
        text
    }

    fn console_line(&self, line: &str) -> String {
        format!(
            "      {}\n",
            self.paint(Tone::Quiet, format!("│ {line}").trim_end())
        )
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colours, tone, text)
    }

    fn print(&self, text: &str) -> Result<(), CliError> {
        match self.format {
            None => output::print(text),
            Some(_) => Ok(()),
        }
    }
}

fn paint(colours: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        _ if !colours => return text.to_owned(),
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Strong => "1",
        Tone::Quiet => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Milliseconds are enough.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

// === impl Scene ===

impl Scene {
    fn new(live: bool, colours: bool, number: usize, title: &str) -> Self {
        let target = if live {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        let strong = paint(colours, Tone::Strong, title);
        // Complete before it is drawn for the first time.
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style(" {spinner} {prefix}  {wide_msg}"))
            .with_prefix(format!("{number:>2} {strong}"));
        if live {
            bar.enable_steady_tick(TICK);
        }
        Self {
            bar,
            notes: RefCell::default(),
        }
    }

    /// A line below the step.
    pub fn tell(&self, line: impl Into<String>) {
        self.notes.borrow_mut().details.push(line.into());
    }

    /// A member of the step's data.
    pub fn record(&self, key: &str, value: impl Into<Value>) {
        self.notes
            .borrow_mut()
            .data
            .insert(key.to_owned(), value.into());
    }

    /// Lines of the console below the step.
    pub fn quote(&self, lines: Vec<String>) {
        self.notes.borrow_mut().console = lines;
    }

    /// Where to say what goes on, as long as the step runs.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// A bar for the rest of the step; the answer moves it.
    pub fn progress(&self, total: u64) -> impl Fn(u64) + Send + Sync + 'static {
        self.bar.set_length(total);
        self.bar.set_style(style(
            " {spinner} {prefix}  {wide_bar} {binary_bytes:>10} {binary_bytes_per_sec:>12}",
        ));
        let bar = self.bar.clone();
        move |done| bar.set_position(done)
    }

    fn end(self) -> Notes {
        self.notes.take()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read costs the bar its looks, nothing else.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrator(format: Option<Format>) -> Narrator {
        Narrator {
            format,
            colours: false,
            live: false,
            started: Instant::now(),
            steps: Vec::new(),
        }
    }

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_step_that_takes_too_long_fails_by_name() {
        let mut narrator = narrator(Some(Format::Json));
        let step = narrator.step(("wait", "Wait"), Duration::from_millis(10), async |_| {
            std::future::pending::<Result<(), CliError>>().await
        });
        let failure = step.await.unwrap_err();
        assert_eq!(
            (failure.step, failure.reason.as_str()),
            ("Wait", "it was not done after 0 s")
        );
        let data = narrator.data(Ending::Failed);
        assert_eq!(data["result"], "failed");
        assert_eq!(data["steps"][0]["error"], "it was not done after 0 s");
    }

    #[tokio::test]
    async fn lines_are_aligned_below_their_step() {
        let mut narrator = narrator(Some(Format::Json));
        let step = narrator.step(("greet", "Greet"), LIMIT, async |scene| {
            scene.tell("detail");
            scene.quote(vec!["=> help".into(), String::new()]);
            scene.record("count", 2);
            Ok(())
        });
        step.await.unwrap();
        let mut told = narrator.steps.pop().unwrap();
        told.seconds = 1.234;
        narrator.steps.push(told);
        let text = narrator.step_text(&narrator.steps[0]);
        let title = format!(" ✓  1 Greet{}   1.23 s", " ".repeat(TITLE_WIDTH - 5));
        assert_eq!(
            text,
            format!("{title}\n      detail\n      │ => help\n      │\n")
        );
        assert_eq!(narrator.data(Ending::Done)["steps"][0]["data"]["count"], 2);
    }
}

//! What a person sees while a lease waits for its exporter.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jmp_client::lease::{Standing, standing};
use jmp_proto::jmp::v1::Queue;
use jmp_proto::jumpstarter::client::v1 as wire;

use super::view::{local_time, timestamp};
use crate::output;

/// A spinner on a terminal, a line for each news otherwise. All on standard error.
pub struct Waiting {
    bar: Option<ProgressBar>,
    told: String,
}

// === impl Waiting ===

impl Waiting {
    /// Nothing is shown before the first state.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let quiet =
            std::env::var("NONINTERACTIVE").is_ok_and(|value| value == "1" || value == "true");
        let bar = (io::stderr().is_terminal() && io::stdout().is_terminal() && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(format!("waiting for lease {name}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            told: String::new(),
        }
    }

    /// Shows where the lease stands.
    pub fn show(&mut self, lease: &wire::Lease, queue: Option<&Queue>) {
        let Standing::Waiting(message) = standing(lease) else {
            return;
        };
        let text = describe(&message, queue);
        if text == self.told {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.clone()),
            None => output::note(&text),
        }
        self.told = text;
    }

    /// Takes the spinner away.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.done();
    }
}

/// `waiting: no exporter is free; place 2 of 3, free at 12:30:00 at the latest`.
#[must_use]
pub fn describe(message: &str, queue: Option<&Queue>) -> String {
    let mut text = match message {
        "" => "waiting for an exporter".to_owned(),
        message if message.starts_with("waiting") => message.to_owned(),
        message => format!("waiting: {message}"),
    };
    if let Some(queue) = queue.filter(|queue| queue.position > 0) {
        let place = format!("; place {} of {}", queue.position, queue.length);
        // Our controller's message says it already.
        if !text.ends_with(&place) {
            text.push_str(&place);
        }
        if let Some(estimate) = queue.estimate.as_ref().and_then(timestamp) {
            text.push_str(&format!(
                ", an exporter is free at {} at the latest",
                local_time(estimate)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_told() {
        assert_eq!(describe("", None), "waiting for an exporter");
        let queue = Queue {
            position: 2,
            length: 3,
            ..Default::default()
        };
        assert_eq!(
            describe("all busy", Some(&queue)),
            "waiting: all busy; place 2 of 3"
        );
        let said = "waiting for the one exporter that fits: a is offline; place 2 of 3";
        assert_eq!(describe(said, Some(&queue)), said);
        let said = "all busy; place 2 of 3";
        assert_eq!(describe(said, Some(&queue)), format!("waiting: {said}"));
    }
}

//! A progress bar for commands that move data.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jmp_driver::command::Invocation;

use crate::resource::{Progress, ProgressSink};

/// A bar on standard error, if the invocation allows one and a person can see it. It is wiped
/// when the last clone of the sink is dropped.
pub fn bar(invocation: &Invocation, what: &str) -> Option<ProgressSink> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !invocation.progress || dumb || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = Wiped(ProgressBar::with_draw_target(
        None,
        ProgressDrawTarget::stderr(),
    ));
    bar.0.set_prefix(what.to_owned());
    bar.0.set_style(style(false));
    Some(Arc::new(move |progress| bar.show(progress)))
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized {
        "{prefix} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta}"
    } else {
        "{prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}"
    };
    // A template that cannot be read costs the bar its looks, not the transfer.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

struct Wiped(ProgressBar);

// === impl Wiped ===

impl Wiped {
    fn show(&self, progress: Progress) {
        if let Some(total) = progress.total
            && self.0.length() != Some(total)
        {
            self.0.set_length(total);
            self.0.set_style(style(true));
        }
        self.0.set_position(progress.done);
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_can_be_read() {
        for sized in [false, true] {
            let _ = style(sized);
        }
        let bar = Wiped(ProgressBar::hidden());
        bar.show(Progress {
            done: 1,
            total: Some(2),
        });
        assert_eq!((bar.0.position(), bar.0.length()), (1, Some(2)));
    }
}

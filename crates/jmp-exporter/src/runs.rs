//! The hooks at work, and what the time asks for: shared by every life cycle.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use jmp_driver::log::Severity;
use jmp_lease::{ExporterStatus, Hook, HookOutcome, HookRun, Moment, StatusUpdate};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hooks::{Finished, HookRunner, Leftovers};

/// What hooks leave running, until the next turn.
#[derive(Debug, Default)]
struct Background {
    tasks: TaskTracker,
    ending: CancellationToken,
}

// === impl Background ===

impl Background {
    fn keep(&self, leftovers: Leftovers) {
        let ending = self.ending.clone();
        self.tasks.spawn(leftovers.follow(ending));
    }

    /// Ends all of it and waits for that.
    async fn end(&mut self) {
        let ended = std::mem::take(self);
        ended.ending.cancel();
        ended.tasks.close();
        ended.tasks.wait().await;
    }
}

/// A hook at work.
struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Finished>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child goes with the task.
        self.task.abort();
    }
}

/// The hooks of one exporter. Dropping it ends them.
#[derive(Default)]
pub(crate) struct HookRuns {
    runs: HashMap<HookRun, Running>,
    background: Background,
}

// === impl HookRuns ===

impl HookRuns {
    /// Starts a hook.
    pub fn start(&mut self, runner: HookRunner, hook: Hook, run: HookRun) {
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let task = tokio::spawn(async move { runner.run(hook, cancelled).await });
        self.runs.insert(run, Running { cancel, task });
    }

    /// The next hook that ends; never, if none runs. Can be cancelled.
    pub async fn next(&mut self) -> (HookRun, HookOutcome) {
        let (run, finished) = std::future::poll_fn(|task| {
            for (run, running) in &mut self.runs {
                if let Poll::Ready(finished) = Pin::new(&mut running.task).poll(task) {
                    return Poll::Ready((*run, finished));
                }
            }
            Poll::Pending
        })
        .await;
        (run, self.over(run, finished))
    }

    /// Ends a hook and waits for that.
    pub async fn cancel(&mut self, run: HookRun) {
        if let Some(mut running) = self.runs.remove(&run) {
            running.cancel.cancel();
            let finished = (&mut running.task).await;
            self.over(run, finished);
        }
    }

    /// Ends what hooks left running in the background.
    pub async fn end_background(&mut self) {
        self.background.end().await;
    }

    fn over(&mut self, run: HookRun, finished: Result<Finished, JoinError>) -> HookOutcome {
        self.runs.remove(&run);
        match finished {
            Ok(finished) => {
                if let Some(leftovers) = finished.leftovers {
                    self.background.keep(leftovers);
                }
                finished.outcome
            }
            Err(error) => HookOutcome::Failed {
                reason: format!("whoever ran it failed: {error}"),
            },
        }
    }
}

/// Waits until a deadline of the status machine, whose clock began at `started`.
pub(crate) async fn until(started: Instant, deadline: Option<Moment>) {
    match deadline {
        Some(deadline) => {
            let at = started.checked_add(deadline.elapsed());
            // A deadline beyond the clock is as good as none, but a tick a day does no harm.
            let at = at.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
            tokio::time::sleep_until(at).await;
        }
        None => std::future::pending().await,
    }
}

/// How important an update of the status is to people.
pub(crate) fn severity(update: &StatusUpdate) -> Severity {
    match update.status {
        ExporterStatus::BeforeLeaseHookFailed | ExporterStatus::AfterLeaseHookFailed => {
            Severity::Error
        }
        _ if update.message.starts_with(jmp_lease::HOOK_WARNING_PREFIX) => Severity::Warning,
        _ => Severity::Info,
    }
}

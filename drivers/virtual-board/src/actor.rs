//! The task that owns the board: it knows the time, everybody else sends it work.
//!
//! It sleeps until the board's next deadline, a job from a driver method or a byte on the
//! console, whichever comes first. It ends when the last [`BoardHandle`] is gone, and at once
//! when its [`BoardTask`] is dropped or told to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use jmp_driver::clock::Clock;
use jmp_driver::{ByteReader, ByteStream, Error, Logger, Result};
use jmp_wire::stream::channel;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::board::{Board, Input, MuxSide, Output, StageKind};

/// Jobs that may wait; each one belongs to a running call, so senders wait rather than fail.
const WAITING_JOBS: usize = 32;
/// Chunks on the way from the board to the reader of its console.
const CONSOLE_CHUNKS: usize = 16;
/// Console bytes that wait for their reader before the board is held back, as a UART with flow
/// control would.
const HELD_BACK_BYTES: usize = 64 << 10;

type Job = Box<dyn FnOnce(&mut BoardRunner) + Send>;

/// Sends work to the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BoardHandle {
    jobs: mpsc::Sender<Job>,
}

/// The task; dropping it stops it.
pub(crate) struct BoardTask {
    task: AbortOnDropHandle<()>,
}

/// The board with its clock, its log and its serial line: what jobs get to see.
pub(crate) struct BoardRunner {
    board: Board,
    clock: Arc<dyn Clock>,
    started: Instant,
    log: Logger,
    line: Option<Line>,
    /// What the board said and the reader of the line has not taken yet.
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// Counts the moves of the multiplexer.
    moves: u64,
}

/// The board's end of the serial line.
struct Line {
    typed: ByteReader,
    said: mpsc::Sender<Bytes>,
}

/// What the task woke up for.
enum Event {
    Job(Job),
    Typed(Bytes),
    LineClosed,
    LineTakes,
    Due,
    Abandoned,
}

/// Starts the task. It needs a tokio runtime with time enabled.
pub(crate) fn start(board: Board, clock: Arc<dyn Clock>, log: Logger) -> (BoardHandle, BoardTask) {
    let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
    let runner = BoardRunner {
        board,
        started: clock.now(),
        clock,
        log,
        line: None,
        unsent: VecDeque::new(),
        unsent_bytes: 0,
        moves: 0,
    };
    let task = AbortOnDropHandle::new(tokio::spawn(runner.run(waiting)));
    (BoardHandle { jobs }, BoardTask { task })
}

// === impl BoardHandle ===

impl BoardHandle {
    /// Runs `job` between two steps of the board and returns what it returns.
    ///
    /// # Errors
    ///
    /// When the session has closed the board.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut BoardRunner) -> R + Send + 'static,
    ) -> Result<R> {
        let gone = || Error::device("the virtual board is closed: its session has ended");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |runner| {
            // The caller may have given up; the job is done all the same.
            let _ = answer.send(job(runner));
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

// === impl BoardTask ===

impl BoardTask {
    /// Stops the task and waits until the board is gone.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // Cancelled is what was asked for; a panic was reported by the runtime.
        let _ = self.task.await;
    }
}

// === impl BoardRunner ===

impl BoardRunner {
    /// Lets something happen to the board now, and hands on what it says.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        let outputs = self.board.step(self.time(), input);
        for output in outputs {
            match output {
                Output::Console(bytes) => self.say(bytes.into()),
                Output::Entered(stage) => self.log.info(stage_text(stage)),
            }
        }
    }

    /// Switches the supply.
    pub(crate) fn power(&mut self, on: bool) {
        self.log.info(if on { "power on" } else { "power off" });
        self.input(if on { Input::PowerOn } else { Input::PowerOff });
    }

    /// Connects the storage to `side`.
    pub(crate) fn switch_storage(&mut self, side: MuxSide) {
        self.log.info(format!("storage connected to {side}"));
        if side != self.board.mux() {
            self.moves += 1;
        }
        self.input(Input::Mux(side));
    }

    /// Back to how the board was delivered.
    pub(crate) fn reset(&mut self) {
        self.input(Input::PowerOff);
        self.board.reset();
        self.moves += 1;
    }

    /// The board as it is now.
    pub(crate) fn board(&mut self) -> &mut Board {
        self.input(Input::Tick);
        &mut self.board
    }

    /// How often the storage was moved: who writes it must see no other number at the end.
    pub(crate) fn moves(&self) -> u64 {
        self.moves
    }

    /// Time since the board was made.
    pub(crate) fn time(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.started)
    }

    /// Plugs in a serial line and returns its other end. An earlier line ends.
    pub(crate) fn attach(&mut self) -> ByteStream {
        let (typing, typed) = channel(CONSOLE_CHUNKS);
        let (said, mut saying) = mpsc::channel(CONSOLE_CHUNKS);
        self.detach();
        self.line = Some(Line { typed, said });
        let reader = futures::stream::poll_fn(move |task| saying.poll_recv(task)).map(Ok);
        ByteStream {
            reader: Box::pin(reader),
            writer: typing,
        }
    }

    fn detach(&mut self) {
        self.line = None;
        self.unsent.clear();
        self.unsent_bytes = 0;
    }

    /// Without a line nobody listens, and what is said is lost.
    fn say(&mut self, bytes: Bytes) {
        if self.line.is_some() {
            self.unsent_bytes += bytes.len();
            self.unsent.push_back(bytes);
        }
    }

    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            match self.next_event(&mut jobs).await {
                Event::Job(job) => job(&mut self),
                Event::Typed(bytes) => self.input(Input::Console(&bytes)),
                Event::LineClosed => self.detach(),
                Event::LineTakes => {}
                Event::Due => self.input(Input::Tick),
                Event::Abandoned => return,
            }
        }
    }

    async fn next_event(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Event {
        let due = self
            .board
            .next_deadline()
            .filter(|_| self.unsent_bytes < HELD_BACK_BYTES)
            .and_then(|deadline| self.started.checked_add(deadline));
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let (unsent, unsent_bytes) = (&mut self.unsent, &mut self.unsent_bytes);
        let line = async {
            match &mut self.line {
                Some(line) => line.next_event(unsent, unsent_bytes).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            job = jobs.recv() => job.map_or(Event::Abandoned, Event::Job),
            event = line => event,
            () = wait => Event::Due,
        }
    }
}

// === impl Line ===

impl Line {
    /// Moves what was said, or waits for something typed. Loses nothing when cancelled.
    async fn next_event(&mut self, unsent: &mut VecDeque<Bytes>, bytes: &mut usize) -> Event {
        tokio::select! {
            room = self.said.reserve(), if !unsent.is_empty() => match room {
                Ok(room) => {
                    if let Some(chunk) = unsent.pop_front() {
                        *bytes -= chunk.len();
                        room.send(chunk);
                    }
                    Event::LineTakes
                }
                Err(_) => Event::LineClosed,
            },
            typed = self.typed.next() => match typed {
                Some(Ok(typed)) => Event::Typed(typed),
                Some(Err(_)) | None => Event::LineClosed,
            },
        }
    }
}

fn stage_text(stage: StageKind) -> &'static str {
    match stage {
        StageKind::Off => "board is off",
        StageKind::Rom => "board runs its boot ROM",
        StageKind::UBoot => "board runs U-Boot",
        StageKind::Linux => "board runs Linux",
        StageKind::Halted => "board is halted",
        StageKind::Hung => "board hangs; only a power cycle helps",
    }
}

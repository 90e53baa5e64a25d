//! The board: which stage runs, and what it is told.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{BoardConfig, ConfigError};
use super::console::{Console, Output};
use super::environment::Environment;
use super::faults::{BootFailure, Faults, FlashAttempt};
use super::linux::Linux;
use super::medium::{Medium, MuxSide, Storage, StorageError};
use super::power::{Activity, Measurement, measure};
use super::rom::Rom;
use super::stage::{Context, Next, Stage, StageKind};
use super::uboot::UBoot;

/// A step stops producing console output at this many bytes and asks, by its
/// deadline, to be called again at once.
const STEP_OUTPUT: usize = 16 << 10;
/// Upper bound of the console bytes of one step: the limit above, and what the
/// event that reached it, or the input after it, still had to say.
pub const MAXIMUM_STEP_OUTPUT: usize = STEP_OUTPUT * 3;
/// Typed bytes that wait until something takes them; more are lost, as in a
/// receive buffer that overruns.
const RECEIVE_BUFFER: usize = 4096;
const INTERRUPT: u8 = 0x03;

/// Something that happens to the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'bytes> {
    /// The supply is switched on; nothing happens when it was.
    PowerOn,
    /// The supply is switched off.
    PowerOff,
    /// Bytes arrive on the serial console.
    Console(&'bytes [u8]),
    /// The storage is connected to another side.
    Mux(MuxSide),
    /// Only time passed.
    Tick,
}

/// A small simulated board. See the module documentation for how to drive it.
pub struct Board {
    config: BoardConfig,
    storage: Storage,
    faults: Faults,
    saved_environment: Option<Environment>,
    stage: Box<dyn Stage>,
    boot_failure: Option<BootFailure>,
    received: VecDeque<u8>,
    /// Time of the last call.
    now: Duration,
    /// How far the board got: behind `now` only while work is left over.
    clock: Duration,
}

/// A stage in which nothing happens until the supply is switched.
struct Still(StageKind, Activity);

// === impl Board ===

impl Board {
    /// A board that is switched off, its storage connected to the host.
    ///
    /// # Errors
    /// The first key of `config` that is out of range.
    pub fn new(config: BoardConfig, medium: Box<dyn Medium + Send>) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            storage: Storage::new(medium),
            faults: Faults::new(config.faults.clone()),
            config,
            saved_environment: None,
            stage: Box::new(Still(StageKind::Off, Activity::Off)),
            boot_failure: None,
            received: VecDeque::new(),
            now: Duration::ZERO,
            clock: Duration::ZERO,
        })
    }

    /// Lets the board live until `now`, the time since it was created, then
    /// applies `input`. A `now` before that of an earlier call counts as that.
    ///
    /// The work of one step is bounded (a chunk of hashing, some console
    /// output); when more is due, [`Board::next_deadline`] lies at or before `now`.
    pub fn step(&mut self, now: Duration, input: Input<'_>) -> Vec<Output> {
        self.now = self.now.max(now);
        let mut console = Console::default();
        let finished = self.run(&mut console);
        self.apply(input, &mut console);
        // Work that was left over must not get a second allowance.
        if finished {
            self.run(&mut console);
        }
        let mut outputs = console.into_outputs();
        for output in &mut outputs {
            if let Output::Console(bytes) = output {
                self.faults.garble(bytes);
            }
        }
        outputs
    }

    /// When [`Board::step`] has to be called next, if nothing happens before:
    /// never when `None`, at once when not after the last `now`.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.stage.takes_input() && !self.received.is_empty() {
            return Some(self.now);
        }
        self.stage.deadline()
    }

    /// Voltage and current of the supply at `now`, for the stage reached by
    /// the last step.
    pub fn measure(&self, now: Duration) -> Measurement {
        let activity = self.stage.activity(now);
        measure(
            activity,
            self.config.supply_volts,
            self.config.faults.seed,
            now,
        )
    }

    /// Where the board is.
    pub fn stage(&self) -> StageKind {
        self.stage.kind()
    }

    /// Whether the supply is on.
    pub fn is_powered(&self) -> bool {
        self.stage() != StageKind::Off
    }

    /// The configuration that the board was made with.
    pub fn config(&self) -> &BoardConfig {
        &self.config
    }

    /// The side that the storage is connected to.
    pub fn mux(&self) -> MuxSide {
        self.storage.side()
    }

    /// Whether the host may `operation` (a verb: "write", "read") the storage now.
    ///
    /// # Errors
    /// [`StorageError::NotAtHost`].
    pub fn check_host_access(&self, operation: &'static str) -> Result<(), StorageError> {
        self.storage.check_host(operation)
    }

    /// Whether the host may now write so that the storage holds `end` bytes.
    ///
    /// # Errors
    /// [`StorageError::NotAtHost`], [`StorageError::TooSmall`].
    pub fn check_host_write(&self, end: u64) -> Result<(), StorageError> {
        self.storage.check_host("write")?;
        let capacity = self.config.storage_size;
        if end > capacity {
            return Err(StorageError::TooSmall {
                needed: end,
                capacity,
            });
        }
        Ok(())
    }

    /// Reads the storage from the host's side and returns how many bytes were
    /// read; fewer than `buffer` has only at the end.
    ///
    /// # Errors
    /// [`StorageError::NotAtHost`], [`StorageError::Read`].
    pub fn read_storage(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.storage.read_as_host(offset, buffer)
    }

    /// Puts another medium in, for a driver that replaces its file.
    ///
    /// # Errors
    /// [`StorageError::NotAtHost`].
    pub fn replace_medium(&mut self, medium: Box<dyn Medium + Send>) -> Result<(), StorageError> {
        self.storage.check_host("replace")?;
        self.storage.replace(medium);
        Ok(())
    }

    /// Decides whether and where the write to the storage that begins now
    /// fails. `length` is that of the image where it is known.
    pub fn flash_attempt(&mut self, length: Option<u64>) -> FlashAttempt {
        self.faults.flash(length)
    }

    /// Back to how it was delivered: off, the storage at the host, nothing
    /// typed, no saved environment. Time, medium and faults go on.
    pub fn reset(&mut self) {
        self.switch_off();
        self.storage.switch(MuxSide::Host);
        self.saved_environment = None;
    }

    /// Does what is due until `now`; true when nothing is left over.
    fn run(&mut self, console: &mut Console) -> bool {
        while console.bytes() < STEP_OUTPUT {
            // What was typed came before what is due: it waited for a taker.
            let next = if self.stage.takes_input()
                && let Some(byte) = self.received.pop_front()
            {
                self.with_stage(console, |stage, context| stage.input(byte, context))
            } else if let Some(deadline) = self.stage.deadline()
                && deadline <= self.now
            {
                self.clock = self.clock.max(deadline);
                self.with_stage(console, |stage, context| stage.advance(context))
            } else {
                self.clock = self.now;
                return true;
            };
            if matches!(next, Next::Yield) {
                return false;
            }
            self.follow(next, console);
        }
        false
    }

    fn apply(&mut self, input: Input<'_>, console: &mut Console) {
        // What is switched by hand takes effect now, whatever is left over.
        match input {
            Input::Tick => {}
            Input::PowerOn if self.is_powered() => {}
            Input::PowerOn => {
                self.clock = self.now;
                self.start(console);
            }
            Input::PowerOff if !self.is_powered() => {}
            Input::PowerOff => {
                self.switch_off();
                console.entered(StageKind::Off);
            }
            Input::Console(bytes) if self.is_powered() => self.receive(bytes, console),
            Input::Console(_) => {}
            Input::Mux(side) if side == self.storage.side() => {}
            Input::Mux(side) => {
                self.storage.switch(side);
                self.with_stage(console, |stage, context| {
                    stage.storage_switched(context);
                    Next::Stay
                });
            }
        }
    }

    fn receive(&mut self, bytes: &[u8], console: &mut Console) {
        let interrupt = bytes.iter().rposition(|&byte| byte == INTERRUPT);
        let mut rest = bytes;
        if let Some(position) = interrupt
            && !self.stage.takes_input()
        {
            let mut interrupted = false;
            self.with_stage(console, |stage, context| {
                interrupted = stage.interrupt(context);
                Next::Stay
            });
            if interrupted {
                self.received.clear();
                rest = &bytes[position + 1..];
            }
        }
        let room = RECEIVE_BUFFER - self.received.len();
        self.received.extend(&rest[..rest.len().min(room)]);
    }

    fn start(&mut self, console: &mut Console) {
        self.boot_failure = self.faults.boot();
        self.received.clear();
        let rom = Rom::new(&self.context(console));
        self.enter(Box::new(rom), console);
    }

    fn switch_off(&mut self) {
        self.received.clear();
        self.boot_failure = None;
        self.stage = Box::new(Still(StageKind::Off, Activity::Off));
    }

    fn follow(&mut self, next: Next, console: &mut Console) {
        match next {
            Next::Stay | Next::Yield => {}
            Next::Reset => self.start(console),
            Next::UBoot(header) => {
                let uboot = UBoot::new(header, &self.context(console));
                self.enter(Box::new(uboot), console);
            }
            Next::Linux(handover) => {
                self.received.clear();
                let linux = Linux::new(handover, &self.context(console));
                self.enter(Box::new(linux), console);
            }
            Next::Halt => self.enter(
                Box::new(Still(StageKind::Halted, Activity::Halted)),
                console,
            ),
            Next::Hang => self.enter(Box::new(Still(StageKind::Hung, Activity::Hung)), console),
        }
    }

    fn enter(&mut self, stage: Box<dyn Stage>, console: &mut Console) {
        console.entered(stage.kind());
        self.stage = stage;
    }

    fn context<'board>(&'board mut self, console: &'board mut Console) -> Context<'board> {
        Context {
            config: &self.config,
            storage: &mut self.storage,
            saved_environment: &mut self.saved_environment,
            boot_failure: self.boot_failure,
            console,
            at: self.clock,
        }
    }

    fn with_stage(
        &mut self,
        console: &mut Console,
        act: impl FnOnce(&mut dyn Stage, &mut Context<'_>) -> Next,
    ) -> Next {
        let mut context = Context {
            config: &self.config,
            storage: &mut self.storage,
            saved_environment: &mut self.saved_environment,
            boot_failure: self.boot_failure,
            console,
            at: self.clock,
        };
        act(self.stage.as_mut(), &mut context)
    }
}

// === impl Still ===

impl Stage for Still {
    fn kind(&self) -> StageKind {
        self.0
    }

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn advance(&mut self, _context: &mut Context<'_>) -> Next {
        Next::Stay
    }

    // Takes what is typed, so that it does not turn up in a later boot.
    fn takes_input(&self) -> bool {
        true
    }

    fn input(&mut self, _byte: u8, _context: &mut Context<'_>) -> Next {
        Next::Stay
    }

    fn activity(&self, _now: Duration) -> Activity {
        self.1
    }
}

//! What the stages of a boot have in common.

use std::time::Duration;

use super::config::BoardConfig;
use super::console::Console;
use super::environment::Environment;
use super::faults::BootFailure;
use super::image::ImageHeader;
use super::medium::Storage;
use super::power::Activity;

/// Where the board is on its way from power on to login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageKind {
    /// No supply.
    Off,
    /// The boot ROM and the first loader, looking for an image.
    Rom,
    /// U-Boot.
    UBoot,
    /// The kernel and its system.
    Linux,
    /// Shut down by the system, the supply still on.
    Halted,
    /// Stuck; only a power cycle helps.
    Hung,
}

/// What the kernel is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handover {
    pub(super) header: ImageHeader,
    pub(super) command_line: String,
}

/// What follows after a stage did something.
pub(super) enum Next {
    /// The stage goes on.
    Stay,
    /// The stage goes on, but not within this step: it did a chunk of work.
    Yield,
    /// The board starts over at the boot ROM.
    Reset,
    UBoot(ImageHeader),
    Linux(Handover),
    Halt,
    Hang,
}

/// What a stage may use of the board.
pub(super) struct Context<'board> {
    pub(super) config: &'board BoardConfig,
    pub(super) storage: &'board mut Storage,
    /// The environment as saved; none until `saveenv`.
    pub(super) saved_environment: &'board mut Option<Environment>,
    pub(super) boot_failure: Option<BootFailure>,
    pub(super) console: &'board mut Console,
    /// The time of the event being handled.
    pub(super) at: Duration,
}

impl Context<'_> {
    /// The time at which something is over that takes `real` on a real board.
    pub(super) fn after(&self, real: Duration) -> Duration {
        self.at.saturating_add(self.config.scaled(real))
    }
}

/// A running stage. All times are since the board was created.
pub(super) trait Stage: Send {
    fn kind(&self) -> StageKind;

    /// When [`Stage::advance`] is due, if anything is to come without input.
    fn deadline(&self) -> Option<Duration>;

    /// Does what is due at `context.at`.
    fn advance(&mut self, context: &mut Context<'_>) -> Next;

    /// Whether typed bytes are taken now; others wait in the receive buffer.
    fn takes_input(&self) -> bool;

    /// Takes one typed byte.
    fn input(&mut self, byte: u8, context: &mut Context<'_>) -> Next;

    /// Ctrl-C while nothing takes input. True when it ended something;
    /// otherwise it is a key like any other.
    fn interrupt(&mut self, _context: &mut Context<'_>) -> bool {
        false
    }

    /// The storage appeared or disappeared.
    fn storage_switched(&mut self, _context: &mut Context<'_>) {}

    fn activity(&self, now: Duration) -> Activity;
}

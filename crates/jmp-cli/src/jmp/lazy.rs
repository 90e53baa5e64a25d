//! Arguments of a command that are described only when the command is used.
//!
//! Describing every option of every command takes memory (1.4 MB of code and data that nothing else
//! touches) and time in each process; all but one of the commands are not meant.

use clap::{ArgMatches, Command, Error, FromArgMatches};

/// `A`, whose options join the command line when its command is entered.
///
/// The list of commands is shown without that, so a variant that holds this says itself what its command
/// is about, and how it is hidden; in the words of `A` (a test compares them).
#[derive(Debug)]
pub struct Lazy<A>(pub A);

impl<A: clap::Args> clap::Args for Lazy<A> {
    fn augment_args(command: Command) -> Command {
        command.defer(A::augment_args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.defer(A::augment_args_for_update)
    }
}

impl<A: FromArgMatches> FromArgMatches for Lazy<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        A::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        A::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}

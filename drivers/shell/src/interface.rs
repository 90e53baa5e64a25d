//! The interface that shipped clients speak.

use std::collections::HashMap;

use futures::Stream;
use jmp_driver::{Result, interface};

/// A piece of standard output, a piece of standard error, and the return code in the last item:
/// a code as the process returned it, or minus the number of the signal that ended it.
pub type ShellOutput = (String, String, Option<i64>);

/// Everything a command wrote and its return code.
pub type ShellResult = (String, String, i64);

/// Output that the unary call collects at most, in bytes: its answer must fit a message.
pub(crate) const COLLECTED_LIMIT: usize = 3 * 1024 * 1024;

/// Commands that an exporter's administrator has named.
///
/// `call_method` is answered in both kinds: clients of the first releases call it unary, later
/// ones follow the output.
#[interface(client = "jumpstarter_driver_shell.client.ShellClient")]
pub trait Shell: Send + Sync + 'static {
    /// Names of the commands.
    async fn get_methods(&self) -> Result<Vec<String>>;

    /// Run a command and follow its output.
    fn call_method(
        &self,
        method: String,
        #[default(HashMap::new())] env: HashMap<String, String>,
        #[rest] args: Vec<String>,
    ) -> impl Stream<Item = Result<ShellOutput>> + Send;

    /// Run a command to its end.
    #[method(name = "call_method")]
    async fn call_method_to_end(
        &self,
        method: String,
        #[default(HashMap::new())] env: HashMap<String, String>,
        #[rest] args: Vec<String>,
    ) -> Result<ShellResult>;
}

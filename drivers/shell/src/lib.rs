//! Shell commands as driver methods (facts: drivers 1.16).
//!
//! The interface is in [`interface`], the configuration in [`config`]; [`run`] executes a
//! command so that it ends with its caller, its timeout or the exporter, whichever is first.

pub mod commands;
pub mod config;
pub mod interface;
mod output;
mod run;
mod text;
mod validate;

use std::collections::{BTreeMap, HashMap};

use futures::{Stream, StreamExt};
use jmp_driver::command::ClientRegistry;
use jmp_driver::{Driver, Error, Interface, Logger, OpenContext, Registry, Result, UnknownKeys};

pub use config::{MethodConfig, Methods, ShellConfig};
pub use interface::{Shell, ShellClient, ShellOutput, ShellResult};

use crate::interface::shell_interface;
use crate::run::{Leftovers, Run};

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry.add::<ShellDriver>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::SHELL);
}

/// Runs the commands of its configuration.
#[derive(Debug)]
pub struct ShellDriver {
    config: ShellConfig,
    log: Logger,
    leftovers: Leftovers,
}

// === impl ShellDriver ===

impl ShellDriver {
    /// Checks the call and starts the command.
    async fn start(
        &self,
        method: &str,
        env: HashMap<String, String>,
        args: Vec<String>,
    ) -> Result<Run> {
        let configured = self.config.methods.get(method).ok_or_else(|| {
            let known: Vec<&str> = self.config.methods.names().collect();
            Error::invalid_argument(format!(
                "Method '{method}' not found in available methods: {}",
                text::list(&known)
            ))
        })?;
        validate::environment(&env)?;
        validate::arguments(&args)?;
        validate::script(method, &configured.command)?;
        if let Some(directory) = &self.config.cwd {
            validate::directory(directory)?;
        }
        let mut names: Vec<&str> = env.keys().map(String::as_str).collect();
        names.sort_unstable();
        // The values of variables may be secrets.
        self.log.info(format!(
            "calling {method} with args: {} and kwargs as env: {}",
            text::tuple(&args),
            text::names(&names)
        ));
        Run::start(&self.config, configured, method, env, args).await
    }

    /// The output of a command and at last how it ended. Nothing starts before the first poll;
    /// dropping the stream ends the command.
    fn items(
        &self,
        method: String,
        env: HashMap<String, String>,
        args: Vec<String>,
    ) -> impl Stream<Item = Result<ShellOutput>> + Send {
        let first = State::Waiting { method, env, args };
        futures::stream::try_unfold(first, move |state| async move {
            let mut run = match state {
                State::Waiting { method, env, args } => {
                    Box::new(self.start(&method, env, args).await?)
                }
                State::Running(run) => run,
                State::Ended => return Ok(None),
            };
            let item = run.next().await?;
            let Some(code) = item.2 else {
                return Ok(Some((item, State::Running(run))));
            };
            let method = run.method();
            self.log.info(format!("{method} return code: {code}"));
            self.leftovers.keep(run.into_child());
            Ok(Some((item, State::Ended)))
        })
    }
}

/// How far a call has come.
enum State {
    Waiting {
        method: String,
        env: HashMap<String, String>,
        args: Vec<String>,
    },
    Running(Box<Run>),
    Ended,
}

impl Shell for ShellDriver {
    async fn get_methods(&self) -> Result<Vec<String>> {
        Ok(self.config.methods.names().map(str::to_owned).collect())
    }

    fn call_method(
        &self,
        method: String,
        env: HashMap<String, String>,
        args: Vec<String>,
    ) -> impl Stream<Item = Result<ShellOutput>> + Send {
        self.items(method, env, args)
    }

    async fn call_method_to_end(
        &self,
        method: String,
        env: HashMap<String, String>,
        args: Vec<String>,
    ) -> Result<ShellResult> {
        let mut items = std::pin::pin!(self.items(method, env, args));
        let (mut stdout, mut stderr) = (String::new(), String::new());
        while let Some(item) = items.next().await {
            let (out, err, code) = item?;
            stdout.push_str(&out);
            stderr.push_str(&err);
            if let Some(code) = code {
                return Ok((stdout, stderr, code));
            }
            if stdout.len() + stderr.len() > interface::COLLECTED_LIMIT {
                return Err(Error::other(format!(
                    "more than {} MiB of output; use the streaming call_method",
                    interface::COLLECTED_LIMIT / (1024 * 1024)
                )));
            }
        }
        Err(Error::other("the command ended without an exit status"))
    }
}

impl Driver for ShellDriver {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_shell.driver.Shell"];
    const SUMMARY: &'static str = "Shell commands on the exporter";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = ShellConfig;

    async fn open(config: ShellConfig, context: OpenContext) -> Result<Self> {
        config.check()?;
        Ok(Self {
            config,
            log: context.log,
            leftovers: Leftovers::default(),
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![shell_interface()]
    }

    fn methods_description(&self) -> BTreeMap<String, String> {
        self.config.methods.descriptions()
    }

    async fn close(&self) {
        self.leftovers.end().await;
    }
}

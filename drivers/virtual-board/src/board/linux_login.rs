//! Logging in on the serial console.

use std::time::Duration;

use super::line_editor::LineEditor;
use super::linux::{Linux, State};
use super::stage::Context;

/// How long a refused login is left waiting.
const LOGIN_DELAY: Duration = Duration::from_secs(1);

impl Linux {
    pub(super) fn show_login(&mut self, context: &mut Context<'_>) {
        let version = &self.handover.header.version;
        let hostname = &self.hostname;
        context.console.text(&format!(
            "\nVirtual Board Linux {version} {hostname} ttyS0\n\n{hostname} login: "
        ));
        self.editor = LineEditor::default();
        self.state = State::Login;
    }

    pub(super) fn log_in(&mut self, user: &str, context: &mut Context<'_>) {
        match user.trim() {
            "" => {
                context.console.text(&format!("{} login: ", self.hostname));
            }
            "root" if context.config.root_password.is_none() => self.open_shell(context),
            user => {
                context.console.text("Password: ");
                self.editor = LineEditor::silent();
                self.state = State::Password {
                    user: user.to_owned(),
                };
            }
        }
    }

    pub(super) fn check_password(&mut self, user: &str, password: &str, context: &mut Context<'_>) {
        let expected = context.config.root_password.as_ref();
        if user == "root" && expected.is_some_and(|expected| expected.matches(password)) {
            self.open_shell(context);
        } else {
            self.state = State::LoginRefused(context.after(LOGIN_DELAY));
        }
    }

    pub(super) fn log_out(&mut self, context: &mut Context<'_>) {
        self.queue.clear();
        self.show_login(context);
    }
}

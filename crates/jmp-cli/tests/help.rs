//! The help of every command, as files: what people read is reviewed like code.
//!
//! `INSTA_UPDATE=always cargo test -p jmp-cli --test help` writes them anew.

use clap::Command;

/// All commands that are shown, from the root.
fn all(command: &Command, found: &mut Vec<Command>) {
    found.push(command.clone());
    let below = command.get_subcommands();
    for command in below.filter(|command| !command.is_hide_set()) {
        all(command, found);
    }
}

fn commands() -> Vec<Command> {
    let mut root = jmp_cli::jmp::command();
    root.build();
    let mut found = Vec::new();
    all(&root, &mut found);
    found
}

fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or("jmp").replace(' ', "-")
}

/// What `--help` prints.
fn help(command: &Command) -> String {
    let words = command.get_bin_name().unwrap_or("jmp").split(' ');
    jmp_cli::jmp::command()
        .try_get_matches_from(words.chain(["--help"]))
        .expect_err("help is no command")
        .to_string()
}

#[test]
fn help_of_every_command() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for command in commands() {
            insta::assert_snapshot!(name(&command), help(&command));
        }
    });
}

#[test]
fn every_command_has_examples() {
    for command in commands() {
        let group = command.get_subcommands().next().is_some();
        assert!(
            group || help(&command).contains("Examples:"),
            "{} has no examples",
            name(&command)
        );
    }
}

#[test]
fn the_command_tree_is_sound() {
    jmp_cli::jmp::command().debug_assert();
}

#[test]
fn the_list_of_commands_says_what_they_say_themselves() {
    let listed = jmp_cli::jmp::command();
    let mut built = listed.clone();
    built.build();
    for command in listed.get_subcommands().filter(|it| !it.is_hide_set()) {
        let name = command.get_name();
        let about = |command: &Command| command.get_about().map(ToString::to_string);
        let own = built.find_subcommand(name).and_then(about);
        assert!(own.is_some(), "{name} says nothing");
        assert_eq!(about(command), own, "jmp {name}");
    }
}
